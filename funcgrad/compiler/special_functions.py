"""Error functions, the logarithm of the gamma function and its derivatives, and Bessel functions, in the language of
kernels.

Error functions of float32 are computed in float32, since activations and normal random numbers need them; the others
are seldom used, and computed in float64 for all dtypes.

Sources: M. Abramowitz and I. Stegun, "Handbook of Mathematical Functions" (1964), chapters 6, 7 and 9; M. Shepherd and
J. Laframboise, "Chebyshev Approximation of (1 + 2x) exp(x**2) erfc x" (Mathematics of Computation 36, 1981); M. Giles,
"Approximating the erfinv function" (GPU Computing Gems, Jade Edition, 2011). All coefficients were fitted anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

from funcgrad.compiler.expressions import (
    BOOL,
    FLOAT32,
    FLOAT64,
    Expression,
    constant,
    constant_value,
    convert,
    fma,
    rarely,
    select,
    unary,
)
from funcgrad.compiler.mathematics import (
    at_most,
    copysign,
    double_power,
    exp_in_range,
    exp_of_negative,
    format_of,
    log,
    log1p,
    magnitude,
    natural_log,
    polynomial,
    repeated_product,
    split_exponent,
    two_product,
)
from funcgrad.compiler.trigonometry import sine_polynomial

Function = Callable[..., Expression]


def _in_float64(function: Function) -> Function:
    @wraps(function)
    def of_any(*operands: Expression) -> Expression:
        return convert(function(*[convert(x, FLOAT64) for x in operands]), operands[0].dtype)

    return of_any


def _log_of_normal(x: Expression) -> Expression:
    """The logarithm of a positive, finite number."""
    return natural_log(*split_exponent(x))


# Error functions

# erf(x) = x + x P(x**2) for |x| <= 1, and 1 - exp(P(x)) from there up to 3.95
_ERF_SINGLE = (*(7.85385419e-05, -0.000801019138, 0.00518832728, -0.026853811, 0.112835854, -0.37612626, 0.128379166),)
_ERF_SINGLE_OUTER = (
    *(0.000186378486, -0.00294765108, 0.0218380336, -0.103106692, -0.63814491, -1.12708914, -0.000341535168),
)
_ERF_DOUBLE = (
    *(-4.230945824295338e-12, 8.709045129053106e-11, -1.216456005728345e-09, 1.4792401209404813e-08),
    *(-1.6364642158167616e-07, 1.6462045441468418e-06, -1.4925647567519332e-05, 0.00012055332902888736),
    *(-0.000854832702193483, 0.0052239776254232985, -0.02686617064512984, 0.1128379167095512),
    *(-0.37612638903183754, 0.1283791670955126),
)

# (1 + 2 a) exp(a**2) erfc(a) - 1 by (v + 1), as a polynomial of v = (a - k) / (a + k), with k = 2 for float32 and k = 4
# for float64
_ERFC_SINGLE = (
    *(3.2729371e-05, -0.000381717167, -0.000866281393, 0.00212717778, 0.00650343392),
    *(-0.0145449657, -0.0396578014, 0.203710705, -0.369742274, 0.276978403),
)
_ERFC_DOUBLE = (
    *(3.9164208207590846e-10, 2.0231057534511323e-09, -3.473326334786253e-10, -1.7176213493271608e-08),
    *(-2.4990365238439806e-09, 1.1688848138229315e-07, -3.877222971267677e-08, -7.896878157402852e-07),
    *(1.0803616830254096e-06, 4.630637277922313e-06, -1.585102710841669e-05, -8.548501530808893e-06),
    *(0.00015916964351996672, -0.00035842629579149163, -0.0003993468830453652, 0.005431316859087547),
    *(-0.021629050930855234, 0.05879656646814207, -0.12512693227932262, 0.2188597672776997),
    *(-0.3198988333140437, 0.3879958875687354, -0.372616235466115, 0.2329951186255525),
)


def _erfc_of_positive(a: Expression) -> Expression:
    pick = format_of(a).pick
    a = at_most(a, pick(10.5, 28.0))
    v = 2.0 * a / (a + pick(2.0, 4.0))
    values = fma(v, polynomial(v - 1.0, pick(_ERFC_SINGLE, _ERFC_DOUBLE)), 1.0)
    square, error = two_product(a, a)
    return exp_of_negative(-square, -error, values / fma(a, 2.0, 1.0))


def erfc(x: Expression) -> Expression:
    """1 - erf(x), without losing what is left for large x."""
    value = _erfc_of_positive(magnitude(x))
    return select(x.less(0.0), 2.0 - value, value)


def erf(x: Expression) -> Expression:
    """The error function."""
    single = x.dtype == FLOAT32
    size = at_most(magnitude(x), 3.95) if single else magnitude(x)
    central = fma(size, polynomial(size * size, _ERF_SINGLE if single else _ERF_DOUBLE), size)
    rest = exp_in_range(polynomial(size, _ERF_SINGLE_OUTER)) if single else _erfc_of_positive(size)
    return copysign(select(size.less(1.0), central, 1.0 - rest), x)


# The inverse error function by x is a polynomial of w = -log(1 - x**2), or of its root for large w.

_INVERSE_SINGLE_CENTRAL = (
    *(-8.93192631e-09, 2.33359678e-08, 4.68131361e-07, -3.46398519e-06, -4.9724199e-06),
    *(0.000218349393, -0.00125272642, -0.00417739293, 0.24664028, 1.50140941),
)
_INVERSE_SINGLE_TAIL = (
    *(-3.26353183e-05, 0.000165715217, -0.00027429004, -0.000127439489, 0.00147426489),
    *(-0.00356347952, 0.00568771176, -0.00764343096, 0.00944530964, 1.00167525),
    *(2.83297682,),
)
_INVERSE_CENTRAL = (
    *(-1.9123778045391186e-23, -3.3795536525485224e-22, 4.357475280244854e-21, 1.8739434875095462e-20),
    *(-3.7848217521105335e-19, 6.396664855709971e-19, 1.5992591736199305e-17, -1.226305743260548e-16),
    *(-4.417003393665373e-17, 6.525767922399858e-15, -3.998852309540432e-14, -8.074665167507013e-14),
    *(2.6303859148085384e-12, -1.2978692479994892e-11, -5.4142609576164565e-11, 1.051223070748762e-09),
    *(-4.112661266924503e-09, -2.907039074871087e-08, 4.234788178266526e-07, -1.3654691764135042e-06),
    *(-1.3882523394637344e-05, 0.0001867342080200925, -0.0007407025341544301, -0.006033670871426909),
    *(0.2401581824255883, 1.6536545626831027),
)
_INVERSE_MIDDLE = (
    *(-1.4414402902576647e-09, 7.602734181548034e-09, -1.1037793186805448e-08, -2.069721217948336e-08),
    *(1.2617019273822622e-07, -2.4575721605517875e-07, -2.3768438869458365e-08, 1.4817686493076977e-06),
    *(-3.987383279152877e-06, 2.9325103785542764e-06, 1.2465490012885596e-05, -4.732066388775043e-05),
    *(6.828703766281446e-05, 2.4031510350318603e-05, -0.00035503780550499826, 0.000953289341795833),
    *(-0.001688275535921936, 0.002491442097947516, -0.003751208508212327, 0.005370914553555193),
    *(1.0052589676941652, 3.0838856104922208),
)
_INVERSE_TAIL = (
    *(-8.977601536307839e-13, 5.911037481033322e-12, -1.592207732949647e-11, 1.4579529036946496e-11),
    *(6.007493107687482e-11, -3.804499618471294e-10, 1.3272282026037264e-09, -3.5345344358677255e-09),
    *(7.813329926574652e-09, -1.5213385713980835e-08, 2.902230541443624e-08, -6.757285371957478e-08),
    *(2.290518038393062e-07, -9.930254676779616e-07, 4.5260526888646505e-06, -1.9681771199151526e-05),
    *(7.599527808342753e-05, -0.0002150301197990304, -0.0001387193183797196, 1.0103004648645448),
    *(4.849906401408584,),
)


def erf_inv(x: Expression) -> Expression:
    """The y with erf(y) = x."""
    size = magnitude(x)
    w = -_log_of_normal((1.0 - size) * (1.0 + size))
    root = unary("sqrt", w)
    if x.dtype == FLOAT32:
        tail = polynomial(root - 3.0, _INVERSE_SINGLE_TAIL)
        quotient = select(w.less(5.0), polynomial(w - 2.5, _INVERSE_SINGLE_CENTRAL), tail)
    else:
        tail = select(root.less(4.0), polynomial(root - 3.25, _INVERSE_MIDDLE), polynomial(root - 5.0, _INVERSE_TAIL))
        quotient = select(w.less(6.25), polynomial(w - 3.125, _INVERSE_CENTRAL), tail)
    end = select(size.equal(1.0), copysign(x._other(math.inf), x), math.nan)
    return select(size.less(1.0), x * quotient, end)


# The gamma function. Between 1.25 and 2.25 its logarithm is (x - 2) P(x - 1.75); other x up to 6.25 are moved there by
# gamma(x + 1) = x gamma(x); beyond, Stirling's series is short.

_LOG_GAMMA = (
    *(-4.938973877783741e-07, 9.062302662956166e-07, -1.018534066859108e-06, 1.8843012339869173e-06),
    *(-3.8621180741979516e-06, 7.185042554655769e-06, -1.330725942603053e-05, 2.498197051108964e-05),
    *(-4.718442699935593e-05, 8.967198096116145e-05, -0.00017180287916912404, 0.0003325039063219129),
    *(-0.000651893342881712, 0.0013001093288004513, -0.00265454371559924, 0.005606724830685176),
    *(-0.012471680011310918, 0.03022997882582552, -0.08609125122636048, 0.36052812214032426),
    *(0.3376044840819422,),
)
_STIRLING = (
    *(0.08398784321943628, -0.025755835263970673, 0.006320721568618444, -0.0019162450942828188),
    *(0.0008417398411570154, -0.0005952380415758077, 0.0007936507935186324, -0.0027777777777776517),
    *(0.08333333333333333,),
)
_LOG_PI = 1.1447298858494002


def _sine_of_half_turns(x: Expression) -> Expression:
    """sin(pi x) for x between 0 and 1/2."""
    return sine_polynomial(x * math.pi)


def _lgamma_of_positive(a: Expression) -> Expression:
    whole = at_most(unary("floor", a + 0.75), 6.0)
    t = a - whole
    product = select(whole.less(2.0), select(whole.less(1.0), fma(a, a, a), a), 1.0)
    for step in range(2, 6):
        product = select(whole.greater(float(step)), product * (t + float(step)), product)
    large = a.greater(6.25)
    logarithm = _log_of_normal(select(large, a, product))
    moved = fma(t, polynomial(t + 0.25, _LOG_GAMMA), select(whole.less(2.0), -logarithm, logarithm))
    inverse = 1.0 / a
    rest = fma(inverse, polynomial(inverse * inverse, _STIRLING), 0.5 * math.log(2 * math.pi) - 0.5)
    stirling = fma(a - 0.5, logarithm - 1.0, rest)
    return select(a.greater(0.0), select(large, stirling, moved), select(a.equal(0.0), a._other(math.inf), a))


@_in_float64
def lgamma(x: Expression) -> Expression:
    """The logarithm of the absolute value of the gamma function."""
    size = magnitude(x)
    positive = _lgamma_of_positive(size)
    # gamma(x) gamma(-x) = -pi / (x sin(pi x))
    sine = _sine_of_half_turns(magnitude(size - unary("round", size)))
    reflected = _LOG_PI - log(size * sine) - positive
    reflected = select(sine.equal(0.0), math.inf, reflected)
    result = select(x.less(0.0) & size.greater(2.0**-60), reflected, positive)
    return select(x.equal(-math.inf), x, result)


_DIGAMMA = (
    *(0.00011881232908510335, -0.0001782188548855923, 9.653646261410062e-05, -0.00014480643368061614),
    *(0.00032395945401345196, -0.00048595039220036254, 0.0006909255761282986, -0.0010364584817312839),
    *(0.0015633696313653504, -0.0023454947397380833, 0.003518106563802472, -0.005279937255532708),
    *(0.007927021796868154, -0.011908220105959716, 0.017907248317313294, -0.026975796659787055),
    *(0.040760833940846085, -0.06192213327548831, 0.09498872445289039, -0.14840492305388092),
    *(0.24054248424078697, -0.4236274212814606, 0.9510558760318328),
)
_DIGAMMA_ROOT = (1.4616321449683622, 9.549995429965697e-17)
_DIGAMMA_SERIES = (
    *(36.409254740393564, -12.625259928806628, 2.4836912240131954, -0.42689440569710074),
    *(0.08301385418697708, -0.021088660292497605, 0.0075757235315827166, -0.00416666650099078),
    *(0.003968253967836393, -0.00833333333333292, 0.08333333333333333),
)


def _digamma_of_positive(y: Expression) -> Expression:
    """Between 1 and 2 it is (y - root) P(y); other y up to 5 are moved there by psi(y + 1) = psi(y) + 1 / y."""
    whole = unary("floor", at_most(y, 5.0))
    below_one = whole.less(1.0)
    t = y - select(below_one, y._other(-1.0), whole - 1.0)
    top, bottom = select(below_one, y._other(-1.0), 0.0), select(below_one, y, 1.0)
    for step in range(3):
        further, term = whole.greater_equal(step + 2.0), t + float(step)
        top, bottom = select(further, fma(top, term, bottom), top), select(further, bottom * term, bottom)
    high, low = _DIGAMMA_ROOT
    moved = fma((t - high) - low, polynomial(t - 1.5, _DIGAMMA), top / bottom)
    inverse = 1.0 / y
    square = inverse * inverse
    series = fma(-square, polynomial(square, _DIGAMMA_SERIES), fma(inverse, -0.5, log(y)))
    return select(y.less(5.0), moved, series)


@_in_float64
def digamma(x: Expression) -> Expression:
    """The derivative of `lgamma`."""
    negative = x.less(0.0)
    value = _digamma_of_positive(select(negative, 1.0 - x, x))
    # psi(x) = psi(1 - x) - pi / tan(pi x)
    rest = x - unary("round", x)
    size = magnitude(rest)
    cotangent = copysign(_sine_of_half_turns(0.5 - size) / _sine_of_half_turns(size), rest)
    reflected = select(size.equal(0.0), math.nan, fma(cotangent, -math.pi, value))
    result = select(negative, reflected, value)
    return select(x.equal(0.0), copysign(x._other(math.inf), -x), result)


# The derivatives of digamma: polygamma(n, x) = (-1)**(n + 1) n! zeta(n + 1, x), where zeta(s, x) is the sum of
# 1 / (x + k)**s for k = 0, 1, 2 and so on. Terms from TERMS on are summed by the formula of Euler and Maclaurin.

TERMS = 8
MOST_ORDERS = 170  # whose factorial is in range
_BERNOULLI = (
    *(1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600),
    *(-3617 / 10670622842880000, 43867 / 5109094217170944000, -174611 / 802857662698291200000),
)
"""The Bernoulli number of an even number, divided by the factorial of that: 2, 4, 6 and so on."""

MOST_FACTORS = 8  # up to which a power is multiplied out
SCALE = 500  # factorials are kept divided by 2**SCALE, so that products with them are in range
_FACTORIALS = tuple(math.factorial(16 * k) / (1 << SCALE) for k in range(11))


def _scaled_factorial(n: Expression) -> Expression:
    """n! / 2**SCALE, for a whole number up to MOST_ORDERS: that of a multiple of 16, and up to 15 factors more."""
    start = unary("floor", n * (1 / 16)) * 16.0
    factorial: Expression = n._other(_FACTORIALS[0])
    for k, value in enumerate(_FACTORIALS):
        factorial = select(start.greater_equal(16.0 * k), value, factorial)
    product, error = n._other(1.0), n._other(0.0)
    for step in range(1, 16):
        factor = select((start + float(step)).less_equal(n), start + float(step), 1.0)
        product, more = two_product(product, factor)
        error = fma(error, factor, more)
    return fma(factorial, product, factorial * error)


def _power_of_quotient(x: Expression, k: int | Expression, s: Expression) -> Expression:
    """(x / (x + k)) ** s; where that may be nearly all of a sum, by a logarithm, which is more precise."""
    if s.operation == "constant" and constant_value(s) <= MOST_FACTORS and isinstance(k, int) and k < TERMS:
        return repeated_product(x / (x + float(k)), int(constant_value(s)))
    return exp_of_negative(-s * log1p(k / x))


def _endless_sum(s: Expression, x: Expression) -> Expression:
    """The sum of (x / (x + k))**s for all k, where x is large enough."""
    inverse = 1.0 / x
    square = inverse * inverse
    series = x._other(_BERNOULLI[-1])
    for k in range(len(_BERNOULLI) - 1, 0, -1):
        series = fma(series, (s + (2.0 * k - 1)) * (s + 2.0 * k) * square, _BERNOULLI[k - 1])
    return fma(series, s * inverse, 0.5) + x / (s - 1.0)


def _sum_of_powers(s: Expression, x: Expression, count: Expression | None, factor: Expression) -> Expression:
    """The sum of 1 / (x + k)**s for all k below a number, or for all, times a factor and 2**SCALE."""
    # The smallest ones first, but the rest last, which may be larger than all others.
    total: Expression = x._other(0.0)
    for k in range(TERMS - 1, 0, -1):
        term = _power_of_quotient(x, k, s)
        total = total + (term if count is None else select(count.greater(float(k)), term, 0.0))
    total = total + 1.0
    following, end = _endless_sum(s, x + float(TERMS)), _power_of_quotient(x, TERMS, s)
    if count is not None:
        too_much = _endless_sum(s, x + count) * _power_of_quotient(x, count, s)
        rest = fma(following, end, -too_much)
        return double_power(x, -s, factor * select(count.greater(float(TERMS)), total + rest, total), places=SCALE)
    # Far out, the sum is an integral, and the series is not needed.
    far = x.greater(1e20)
    total = select(far, 1.0 / (s - 1.0), fma(following, end, total))
    return double_power(x, select(far, 1.0 - s, -s), factor * total, places=SCALE)


def _derivative_of_digamma(s: Expression, factorial: Expression, odd: Expression, x: Expression) -> Expression:
    """That of order s - 1, which is odd or not, from its factorial divided by 2**SCALE."""
    # Of a negative x, the first terms are powers of negative numbers. They are added up by themselves.
    negative = x.less(0.0)
    first = unary("floor", x)
    value = _sum_of_powers(s, select(negative, x - first, magnitude(x)), None, factorial)
    others = _sum_of_powers(s, unary("ceil", x) - x, -first, factorial)
    value = rarely(negative, value + select(odd, others, -others), value)
    value = select(negative & first.equal(x), math.inf, value)
    return select(odd, value, -value)


@_in_float64
def polygamma(n: Expression, x: Expression) -> Expression:
    """The derivative of order n of `digamma`; infinite if n is too large for a factorial, NaN if it is not whole."""
    if n.operation == "constant":
        order = float(constant_value(n))
        if order == 0:
            return digamma(x)
        if order in range(1, MOST_ORDERS + 1):
            factorial = x._other(math.factorial(int(order)) / (1 << SCALE))
            return _derivative_of_digamma(x._other(order + 1), factorial, constant(order % 2 == 1, BOOL), x)
    whole = unary("trunc", n).equal(n) & n.greater_equal(0.0) & n.less(math.inf)
    fits = whole & n.greater(0.0) & n.less_equal(float(MOST_ORDERS))
    order = select(fits, n, 1.0)
    half = 0.5 * order
    odd = unary("trunc", half).not_equal(half)
    value = _derivative_of_digamma(order + 1.0, _scaled_factorial(order), odd, x)
    value = select(fits, value, select(whole & x.equal(x), n._other(math.inf), math.nan))
    return rarely(n.equal(0.0), digamma(x), value)


# Modified Bessel functions of the first kind. Times exp(-|x|), they are polynomials of |x| by 1 + |x| (of order 1: by
# (2 + |x|)**2 / |x|) up to 8, and polynomials of 1 / |x| by the root of |x| beyond.

_I0_SMALL = (
    *(8.436956081614158e-10, -3.2941223760622283e-09, 5.721571404004997e-09, -1.9390901700114735e-08),
    *(8.712492699346078e-08, -2.8741529253076083e-07, 8.604880896254931e-07, -2.5889071245027068e-06),
    *(7.528278064632319e-06, -2.0762536587653415e-05, 5.450372953262992e-05, -0.00013611290027254206),
    *(0.00032210858805515, -0.0007195218454129896, 0.001510737057354953, -0.00296599903934404),
    *(0.005409076158045643, -0.009083957621312736, 0.013878311311771942, -0.01893023154472669),
    *(0.022298374775170972, -0.021054237321907282, 0.01217838079423986, 0.005720377589643653),
    *(-0.030605074456900902, 0.056522605873833294, -0.07544323987871679, 0.08054331543448659),
    *(-0.0671546926439947, 0.020560835154934416, 0.26298605046491935, 1.0350096061199334),
)
_I0_LARGE = (
    *(-2.1026384897988802e-11, 3.908387942826915e-11, 1.588423350992965e-10, -3.1469409440481513e-10),
    *(-5.517743440732131e-10, 1.1879241078722262e-09, 1.19167453655378e-09, -2.8411410774923857e-09),
    *(-1.8880957563391057e-09, 4.957147335316315e-09, 2.6547902915057677e-09, -6.9145475501901456e-09),
    *(-4.184523888729429e-09, 7.910872177098164e-09, 7.83448429524067e-09, -5.569090680737431e-09),
    *(-1.348907570380097e-08, -6.7100093246245074e-09, 7.569785257070744e-09, 2.1542842690546706e-08),
    *(3.932406802805976e-08, 8.872268159209354e-08, 2.973599767639828e-07, 1.483847543824492e-06),
    *(1.1143033787275596e-05, 0.00013621607439232331, 0.0033605519836678952, 0.4021765094450081),
)
_I1_SMALL = (
    *(-6.155435585799788e-10, 2.3697171353971767e-09, -3.910669126637404e-09, 1.2911344143703002e-08),
    *(-5.8276652628249414e-08, 1.8774310369511843e-07, -5.424891022748439e-07, 1.5783358244980201e-06),
    *(-4.424628940783517e-06, 1.1668835810456072e-05, -2.9028399342680916e-05, 6.793608548322103e-05),
    *(-0.00014831400880962775, 0.0002987190609139285, -0.0005459480856035122, 0.0008789571613043805),
    *(-0.0011676917214951121, 0.0010286507891728086, 0.0003240118577199974, -0.004108412406328804),
    *(0.011644795986970337, -0.023423935331148425, 0.03761999238973362, -0.048735292563978586),
    *(0.04773005947122178, -0.02487880911711665, -0.024967733223539214, 0.09738303435516629),
    *(-0.17659843622782098, 0.23110872932817758, -0.05546609503876261, 1.608757555521918),
)
_I1_LARGE = (
    *(2.049305687359829e-11, -4.0657742537925194e-11, -1.5422532292995627e-10, 3.27305107356646e-10),
    *(5.328726890804043e-10, -1.2354940995166814e-09, -1.1425450294283331e-09, 2.956252395402678e-09),
    *(1.7966120145367928e-09, -5.166953168056089e-09, -2.5283003516359996e-09, 7.242384940925024e-09),
    *(4.0764641389321665e-09, -8.388083994966264e-09, -7.912027539817697e-09, 6.145364848384102e-09),
    *(1.4110780386208672e-08, 6.695302618992283e-09, -8.442156608807226e-09, -2.336817047627452e-08),
    *(-4.312748698582641e-08, -1.000133866120353e-07, -3.483856882241426e-07, -1.834910109811299e-06),
    *(-1.5038547197094254e-05, -0.00021923576383429784, -0.009749577193235768, 0.38939845902587233),
)


@_in_float64
def bessel_i0e(x: Expression) -> Expression:
    """The modified Bessel function of order 0, times exp(-|x|)."""
    size = magnitude(x)
    large = size.greater(8.0)
    top = select(large, polynomial(16.0 / size - 1.0, _I0_LARGE), polynomial(fma(size, 0.25, -1.0), _I0_SMALL))
    return top / select(large, unary("sqrt", size), size + 1.0)


@_in_float64
def bessel_i1e(x: Expression) -> Expression:
    """The modified Bessel function of order 1, times exp(-|x|)."""
    size = magnitude(x)
    large = size.greater(8.0)
    top = select(large, polynomial(16.0 / size - 1.0, _I1_LARGE), polynomial(fma(size, 0.25, -1.0), _I1_SMALL))
    bottom = select(large, unary("sqrt", size), (size + 2.0) * (size + 2.0))
    return copysign(select(large, 1.0, size) * (top / bottom), x)
