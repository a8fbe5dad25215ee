"""Training data: records to tokens, the global plan of an epoch, packed batches and their one specification."""
