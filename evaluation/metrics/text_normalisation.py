r"""What is done to a report's text before its words are compared. The choice moves BLEU-4 by 60 %, so it has a name.

| name          | what it does                                                                                       |
|---------------|----------------------------------------------------------------------------------------------------|
| `raw`         | nothing; words are what stands between spaces                                                      |
| `lower`       | lower case                                                                                         |
| `ptb`         | Penn-Treebank-like tokens in lower case without punctuation, as COCO caption evaluation scores     |
| `r2gen_iu`    | the sentence cleaner of R2Gen for IU X-Ray                                                         |
| `r2gen_mimic` | the sentence cleaner of R2Gen for MIMIC-CXR                                                        |

`ptb` is our own tokenizer, not CoreNLP; how often the two agree is measured by `python evaluation/benchmark.py`.
The R2Gen line also maps rare words of the *references* to `<unk>` and cuts them at 60 or 100 words, which raises
scores; that needs its training vocabulary and is not done here.
Every treatment takes time linear in the length of the text.
"""

import re
from collections.abc import Callable

# R2Gen deletes these characters; its class holds the range ":" to "[", which takes : ; < = > ? @ A-Z [ but no hyphen.
R2GEN_DELETED = re.compile(r"""[.,?;*!%^&_+():-\[\]{}"/\\']""")
R2GEN_NUMBERS = ("2. ", "3. ", "4. ", "5. ")


def raw(text: str) -> str:
    """The text as it is."""
    return text


def lower(text: str) -> str:
    """Lower case."""
    return text.lower()


def halve_runs(text: str, unit: str, rounds: int) -> str:
    """`rounds` times every doubled `unit` becomes a single one, so runs of up to 2**rounds become one."""
    for _ in range(rounds):
        text = text.replace(unit * 2, unit)
    return text


def clean_sentences(text: str) -> str:
    """List numbers out, sentences split at ". ", cleaned, and joined by " . ": both R2Gen cleaners from here on."""
    text = text.replace("1. ", "")
    for before in (". ", " "):
        for number in R2GEN_NUMBERS:
            text = text.replace(before + number, ". ")
    sentences = text.strip().lower().split(". ")
    # Quotes and slashes go before the strip, the rest after it, so inner spaces stay: parity with the published code.
    return " . ".join(R2GEN_DELETED.sub("", strip_quoted(sentence)) for sentence in sentences) + " ."


def strip_quoted(sentence: str) -> str:
    """A sentence without quotes, slashes and blanks around it."""
    return sentence.translate(QUOTES_AND_SLASHES).strip()


QUOTES_AND_SLASHES = str.maketrans("", "", "\"'/\\")


def r2gen_iu(text: str) -> str:
    """R2Gen's cleaner for IU X-Ray."""
    return clean_sentences(halve_runs(text, ".", 3))


def r2gen_mimic(text: str) -> str:
    """R2Gen's cleaner for MIMIC-CXR."""
    text = halve_runs(text.replace("\n", " "), "_", 7)
    return clean_sentences(halve_runs(halve_runs(text, " ", 6), ".", 8))


# --- Penn Treebank, as far as radiology reports need it: our rules, checked against CoreNLP's output ----------------

# What stands outside the group is dropped: COCO's list of punctuation, which names "-LRB-" in upper case only, so that
# brackets of lower-cased text stay words.
PTB_TOKEN = re.compile(
    r"""
    (?:[-–—]+ | \.{2,} | [,;:"`?!])
  | ( [a-z]++(?=[\s,;:])                                   # most words
  | <[^<>\s]{1,40}>                                        # a tag
  | \b(?:dr|drs|mr|mrs|ms|prof|sr|jr|st|vs|etc|ct|fig|inc|co|corp|ltd|
      jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec)\.(?=\s|$)  # abbreviations keep their period
  | \bno\.(?=\ \d)
  | (?:[a-z]\.){2,}                                        # p.m.
  | \d+(?:[.,:]\d+)+ | \.\d+                               # 2.3  10:30  2,300
  | [^\W_]++(?:/[^\W_]++)+                                 # and/or  1/2  l1/l2
  | [^\W\d_]++(?:[.!?][^\W\d_]++)+                         # clear.no: a forgotten space stays forgotten
  | [^\W\d_]+?(?=n't\b) | n't\b | '(?:s|re|ve|ll|d|m)\b
  | [^\W_]++(?:[-_&][^\W_]++)*                             # x-ray  t4-t5  4-5mm
  | _+ | \*+ | [^\w\s.'] )
  | [.']
    """,
    re.VERBOSE,
)
OTHER_FORMS = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", "cannot": "can not"
}  # fmt: skip


def ptb(text: str) -> str:
    """Penn-Treebank-like tokens in lower case, without punctuation."""
    tokens = filter(None, PTB_TOKEN.findall(text.lower()))
    return " ".join([OTHER_FORMS.get(token, token) for token in tokens])


TREATMENTS: dict[str, Callable[[str], str]] = {
    "raw": raw,
    "lower": lower,
    "ptb": ptb,
    "r2gen_iu": r2gen_iu,
    "r2gen_mimic": r2gen_mimic,
}
