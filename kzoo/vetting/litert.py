"""LiteRT files."""

import math
import struct
from pathlib import Path

from kzoo.errors import RequestError
from kzoo.vetting.limits import MOST_TENSOR


def check_litert(path: Path) -> None:
    """Refuse a LiteRT file that declares tensors beyond measure.

    Raises:
        RequestError: It does, or is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise RequestError(f"{path} cannot be opened: it is no LiteRT file")
    try:
        model = schema.Model.GetRootAs(content, 0)
        for number in range(model.SubgraphsLength()):
            graph = model.Subgraphs(number)
            for place in range(graph.TensorsLength()):
                tensor = graph.Tensors(place)
                values = math.prod(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
                if abs(values) > MOST_TENSOR:
                    raise RequestError(f"{path} declares a tensor of {values:,} values ({tensor.Name().decode()})")
    except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{path} cannot be opened: it is damaged ({type(error).__name__})") from None
