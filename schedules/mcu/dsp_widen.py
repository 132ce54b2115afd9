"""The smallest pieces of C that widen bytes to int16 pairs."""


def factor(count: int, limit: int) -> int:
    """The largest divisor of `count` up to `limit`."""
    return max(divisor for divisor in range(1, limit + 1) if count % divisor == 0)


def indent(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def four(source: str, byte: int, at: int, pixels: int) -> str:
    """Four bytes of `source` to two words of q."""
    load = f"stack_load4({source} + {byte})" if byte else f"stack_load4({source})"
    return f"u = {load}, q[{at}] = stack_sxtb16(u), q[{at + pixels}] = stack_sxtb16_ror8(u);"


def run(source: str, end: str, unroll: int, pixels: int, once: bool = False) -> list[str]:
    """All bytes from `source` to `end`, `unroll` times four in the body of the loop, or `once` these only; moves both pointers on."""
    lines = [four(source, 4 * at, 2 * pixels * at, pixels) for at in range(unroll)]
    forward = f"q += {2 * pixels * unroll}"
    if once:
        return [*lines, f"{forward};"]
    return [f"for (const int8_t *end = {end}; {source} != end; {source} += {4 * unroll}, {forward}) {{", *indent(lines), "}"]
