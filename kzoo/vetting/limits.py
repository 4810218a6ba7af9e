"""What no artefact of the zoo exceeds."""

MOST_GRAPH = 1 << 30  # bytes of a graph without weights
MOST_TENSOR = 1 << 31  # bytes of a tensor that a graph may make of a few
MOST_DOCUMENT = 1 << 24  # bytes of a configuration
MOST_CALLS = 1 << 30  # bytes of the arrays that an export is verified with
