"""What we compile for. `targets.registry.find("x86")` returns a Target, `family_of` the code that serves it."""
