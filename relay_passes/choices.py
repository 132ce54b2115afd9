"""Places where graph passes can go more than one way, and which way they go: how the levels below have their say.

    choices.choose("attention", ("fused", "separate"))   ->   "fused", or what was decided for this place, and the place is noted

A pass asks at each place; without decisions it gets the first option. Whoever decides runs the passes once to learn the places, then with
other options to see which programs they lead to, and what those cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Choices:
    """`decided` has an option for some places; `places` fills with all that passes ask about, in order: name -> options, default first.

    A place is named by its kind and what is `like` it: layers of one shape are one place and go the same way, wherever they are and
    whatever is decided elsewhere. Where nothing is said it gets a number, in the order in which a pass comes by: quantized/0, quantized/1.
    """

    decided: Mapping[str, str] = field(default_factory=dict)
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def choose(self, kind: str, options: Sequence[str], like: str = "") -> str:
        """Which of `options` to take at the next place of this kind."""
        place = f"{kind}/{like or sum(name.startswith(f'{kind}/') for name in self.places)}"
        noted = self.places.setdefault(place, tuple(options))
        option = self.decided.get(place, noted[0])
        return option if option in options else options[0]
