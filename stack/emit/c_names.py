"""Names as C allows them and as people write them: `T_add_intermediate` and `v_ax0.1` are none.

Names live in scopes, like C's; a name that is taken gets a number.
"""

import re

KEYWORDS = {
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float", "for",
    "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof", "static", "struct",
    "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "bool", "true", "false", "asm", "typeof", "near",
    "far", "main", "index", "y0", "y1", "yn", "j0", "j1", "jn", "gamma", "exp", "log", "sin", "cos", "tan", "pow", "sqrt",
    "floor", "ceil", "round", "abs", "div",
}  # fmt: skip
NOISE = re.compile(r"^(?:v_|T_|p_|lv\d*_)+|(?:_intermediate|_red|_local|_global)+(?=_|$)")

LONG = {"PadInput": "padded", "pad_temp": "padded", "conv2d_nhwc": "acc", "group_conv2d_nhwc": "acc", "matmul": "acc"}  # TVM's names
SPLIT = re.compile(r"(?:_[01])+$")  # what a split adds to a loop's name


def clean(name: str) -> str:
    """The nearest word that C takes as a name."""
    word = re.sub(r"\W+", "_", name)
    word = LONG.get(NOISE.sub("", word), word)
    word = "i" if "_fused" in word else SPLIT.sub("", NOISE.sub("", word)).strip("_") or "v"
    return f"v{word}" if word[0].isdigit() else word


class Names:
    """The names in use, by scope; `scopes[0]` is the function's."""

    def __init__(self, reserved: frozenset[str] = frozenset()) -> None:
        self.scopes: list[set[str]] = [KEYWORDS | reserved]

    def push(self) -> None:
        self.scopes.append(set())

    def pop(self) -> None:
        self.scopes.pop()

    def new(self, wanted: str) -> str:
        word = clean(wanted)
        taken = set().union(*self.scopes)
        number, name = 0, word
        while name in taken:
            number += 1
            name = f"{word}{number}" if not word[-1].isdigit() else f"{word}_{number}"
        self.scopes[-1].add(name)
        return name
