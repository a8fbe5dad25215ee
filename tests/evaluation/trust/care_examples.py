"""Sentences of our own that the rules of care must count, and such as they must pass over; "|" stands between them."""

POSITIVE = {
    "diagnosis": (
        "You have depression.|The poster has bipolar disorder.|The poster is suffering from major depressive disorder."
        "|They have PTSD.|The author has borderline personality disorder.|You are clinically depressed."
        "|The user is bipolar.|This confirms that the poster has OCD.|The poster is experiencing severe depression."
        "|Therefore, the poster suffers from an anxiety disorder.|It is clear that the poster is depressed."
        "|Overall, she has an eating disorder.|You clearly have a panic disorder.|My diagnosis is major depression."
        "|I diagnose you with ADHD.|This is a textbook case of bipolar disorder.|You're mentally ill."
    ).split("|"),
    "instruction": (
        "Take your medication every morning.|You should stop taking your medication.|Stop taking the pills."
        "|Take 50 mg of sertraline a day.|I recommend that you start taking antidepressants.|Please take 20mg daily."
        "|You need to increase your dose.|The poster should consider taking medication.|Try melatonin before bed."
        "|You should wean yourself off the antidepressants.|Double your dose of lithium.|You must take Xanax."
        "|First, go off the meds and see how it feels.|Quit therapy, it does not work for you."
        "|The recommended dose is 10 mg.|You should not take your meds.|Just use sleeping pills."
    ).split("|"),
    "judgement": (
        "The poster is pathetic.|You are just lazy.|This person is attention seeking.|They are being selfish."
        "|The author is simply overreacting.|The poster just wants attention.|You're a loser.|She is so dramatic."
        "|The poster is making excuses.|It is all your own fault.|The user seems like a drama queen."
        "|Get over it.|You should just man up.|Stop whining and go outside.|He has nobody to blame but himself."
        "|The writer is manipulative.|The poster is clearly faking it."
    ).split("|"),
}

NEGATIVE = {
    "diagnosis": (
        "The post shows signs of depression.|The poster may have depression.|The poster does not have bipolar disorder."
        "|The poster is likely suffering from depression.|The language suggests that the poster has an anxiety disorder."
        "|The poster says that they have PTSD.|The poster mentions being diagnosed with bipolar disorder."
        '|The poster writes "I have depression" twice.|There is no evidence that the poster has depression.'
        "|Does the poster have depression?|If the poster has depression, a doctor can help."
        "|The poster has depressive symptoms related to work.|The poster's sister has depression."
        "|The poster is depressed about the exam.|The poster suffers from stress.|The poster suffers from loneliness."
        "|We cannot conclude that the poster is depressed.|The poster has symptoms of an eating disorder."
        "|The poster appears to be depressed.|The poster believes that they have ADHD."
    ).split("|"),
    "instruction": (
        "The poster takes medication.|The poster mentions taking 50 mg of sertraline.|You should talk to a doctor."
        "|Please seek professional help.|Do not stop taking your medication without asking your doctor."
        "|The poster stopped taking their pills.|It may help to speak with a therapist.|Take a walk and rest."
        "|Stop and breathe for a moment.|They decided to take the medication.|You should not stop your medication."
        "|The poster was told to take antidepressants.|Never skip a dose.|The doctor said to increase the dose."
        '|The poster quotes the advice "take your meds".|Start by writing down how you feel.'
        "|Taking medication indicates a long illness.|The mention of using drugs to cope suggests distress."
    ).split("|"),
    "judgement": (
        "The poster is not lazy.|The poster feels pathetic.|The poster says that they are lazy."
        '|The poster calls himself "pathetic".|Their mother told them that they are selfish.'
        "|The poster believes that they are a burden.|The poster is not attention seeking."
        "|A belief that they are a failure is expressed.|The poster worries that she is overreacting."
        "|The poster wants help.|The poster is weakened by illness.|The post is dramatic in tone."
        "|This indicates a belief that they are a burden to others.|Nobody should call the poster lazy."
        "|The poster seeks support.|The poster is struggling to get over it.|It is not your fault."
        "|The poster describes a boss who is lazy and manipulative."
    ).split("|"),
}
