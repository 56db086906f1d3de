"""One module per kind of instruction: `resolve(instruction, scope) -> Step`."""
