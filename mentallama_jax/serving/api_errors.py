"""Refusals of the server in the shape that OpenAI's clients know. No message holds anything that was sent."""

from collections.abc import Mapping
from typing import Any, NoReturn

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import one_line

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        message: for the person behind the client; in words of the server alone.
        code: for programs, or None.
        param: the field that is wrong, or None.
        headers: that go with the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    def to_json(self) -> dict[str, Any]:
        """The body of the response."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ClientLeft(Exception):  # noqa: N818
    """The client closed the connection; nobody reads a response."""


def refuse(message: str, *, param: str | None = None, code: str | None = None) -> NoReturn:
    """Refuse a request that is wrong.

    Raises:
        ApiError: with status 400.
    """
    raise ApiError(400, message, param=param, code=code)


def failed() -> ApiError:
    """What a client is told where the server failed in a way that nobody thought of."""
    return ApiError(500, "the server failed over this request; its log says where")


def busy(message: str, seconds: int) -> ApiError:
    """What a client is told that should come again."""
    return ApiError(429, message, code="queue_full", headers={"Retry-After": str(seconds)})


def not_now(message: str, code: str, seconds: int = 5) -> ApiError:
    """What a client is told while the server starts or stops."""
    return ApiError(503, message, code=code, headers={"Retry-After": str(seconds)})


def of_user_error(error: UserError, *, param: str | None = None) -> ApiError:
    """A `UserError`, whose message holds no post, as a refusal."""
    return ApiError(400, one_line(error), param=param)
