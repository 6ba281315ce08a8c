"""What the suite knows of every primitive: operands that it takes, a reference, and where it is linear.

`CASES` has one `Case` a primitive. A case draws `Example`s: operands of any shape and dtype that the primitive takes,
inside of its domain and away from the points where it is not smooth; further operands of the same kind for batches; and
params. Primitives that carry functions, or that mean something only inside of a transform, are named in
`TESTED_ELSEWHERE`, with the file that tests them.
"""

from elementwise_cases import ELEMENTWISE
from structural_cases import CONTRACTIONS, SHAPES

CASES = {case.primitive.name: case for case in [*ELEMENTWISE, *SHAPES, *CONTRACTIONS]}
