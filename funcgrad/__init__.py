from funcgrad import errors, tree
from funcgrad.array import AbstractArray as ShapeDtypeStruct
from funcgrad.array import Array, ConcreteArray, as_array
from funcgrad.core import Interpreter, Primitive, Tracer, bind
import funcgrad.primitives.operators
from funcgrad.dtypes import *
from funcgrad.program import Program
from funcgrad.transforms.custom_derivatives import custom_jvp, custom_vjp
from funcgrad.transforms.grad import grad, linear_transpose, linearize, value_and_grad, vjp
from funcgrad.transforms.jit import eval_shape, jit, make_program
from funcgrad.transforms.jvp import jvp
from funcgrad.transforms.vmap import vmap
