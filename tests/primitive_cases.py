"""What the suite knows of every primitive: operands that it takes, a reference, and where it is linear.

`CASES` has one `Case` a primitive. A case draws `Example`s: operands of any shape and dtype that the primitive takes,
inside of its domain and away from the points where it is not smooth; further operands of the same kind for batches; and
params. Primitives that carry functions, or that mean something only inside of a transform, are named in
`TESTED_ELSEWHERE`, with the file that tests them.
"""

from convolution_cases import CONVOLUTIONS
from elementwise_cases import ELEMENTWISE
from selecting_cases import INDEXING, REDUCTIONS, SORTING
from structural_cases import CONTRACTIONS, MOVEMENT, SHAPES

CASES = {
    case.primitive.name: case
    for case in [*ELEMENTWISE, *SHAPES, *CONTRACTIONS, *MOVEMENT, *REDUCTIONS, *SORTING, *INDEXING, *CONVOLUTIONS]
}

TESTED_ELSEWHERE = {
    "call": "test_transforms.py",
    "native": "test_native.py",
    "custom_jvp_call": "test_transforms.py",
    "custom_vjp_call": "test_transforms.py",
    "custom_vjp_tangent": "test_transforms.py",
    "cond": "test_control_flow.py",
    "while": "test_control_flow.py",
    "scan": "test_control_flow.py",
    "checkpoint": "test_control_flow.py",
    "checkpoint_name": "test_control_flow.py",
    "pure_callback": "test_control_flow.py",
    "io_callback": "test_control_flow.py",
    "debug_callback": "test_control_flow.py",
    "psum": "test_collectives.py",
    "pmax": "test_collectives.py",
    "pmin": "test_collectives.py",
    "all_gather": "test_collectives.py",
    "ppermute": "test_collectives.py",
    "axis_index": "test_collectives.py",
    "axis_size": "test_collectives.py",
}
