"""Exact arithmetic in a product of prime fields, to test functions for equality.

A number is one residue for each of several random primes of 31 bits, on the leading axis.
Addition, multiplication and division by constants are those of the field. A function that has no
meaning in a field, ``Opaque``, becomes a random function of its argument, of all residues at once.
Networks that agree on random numbers then agree for any such functions, up to a probability that
``collision`` bounds; identities of the functions, such as 1 - σ(x) = σ(-x), are not used.
"""

from __future__ import annotations

from enum import IntEnum
from fractions import Fraction
from math import floor
from typing import Protocol

import numpy as np

from cliquegraph.semantics.arithmetic import Arithmetic, Array, Number, rational

LANES = 4
_LEAST_PRIME = 2**30
_PRIMES = 50_697_537  # of 31 bits
_BLOCK = 2**21  # elements of matrices that are multiplied at once
_NARROW = 4  # columns: for fewer, integer products are faster than calls of BLAS


class Opaque(IntEnum):
    """The opaque functions, each with its random key."""

    INVERSE_ROOT = 1  # 1/√x, of which √x is the inverse in the field
    RELU = 2
    SIGMOID = 3
    ELEMENT = 4  # an element of a window; their sum is symmetric, like a maximum
    MAXIMUM = 5  # of that sum
    MASK = 6  # of dropout: a function of its place and element
    POWER = 7  # x to a constant power between 0 and 1, a function for each
    STEP = 8  # the derivative of ReLU, of its result
    PLACED = 9  # an element of a window at a place, a function for each place
    SHARE = 10  # of that and of the sum over the window: the derivative of the maximum
    INVERSE = 11  # 1/x of a number to a negative power


class Exact(Arithmetic, Protocol):
    """What programs of a framework consist of beyond the declared operations: derivatives.

    ``PrimeField`` computes numbers, ``Degrees`` the degrees of the polynomials behind them.
    """

    def draw(self, *shape: int) -> Array:
        """Return random numbers."""

    def drawn(self, name: str, *shape: int) -> Array:
        """Return random numbers that have a name, the same in every call."""

    def constant(self, values: Array, /) -> Array:
        """Return numbers of a framework, each the simplest fraction that rounds to it."""

    def mask(self, site: int, *shape: int) -> Array:
        """Return the random choices at a site, the same in every call."""

    def inverse(self, a: Array) -> Array:
        """1 / a."""

    def root(self, a: Array) -> Array:
        """√a."""

    def power(self, a: Array, exponent: Number) -> Array:
        """A to a constant power."""

    def step(self, a: Array) -> Array:
        """The derivative of ReLU where its result is ``a``."""

    def shares(self, windows: Array, present: Array) -> Array:
        """The derivative of each window's maximum with respect to each element: 0 or 1."""


class PrimeField:
    """GF(p₁) × GF(p₂) × …, for random primes and random opaque functions.

    Attributes:
        primes: the primes.
        queries: how many arguments opaque functions have received.
    """

    lead = 1
    _least = 0  # of random numbers that have a name

    def __init__(self, seed: int = 0, lanes: int = LANES) -> None:
        self._random = np.random.default_rng((seed, lanes))
        self._seed = seed
        self.primes = _draw_primes(self._random, lanes)
        self._moduli = np.array(self.primes, np.int64)
        self._keys: dict[tuple[int, ...], Array] = {}
        self._constants: dict[Number, Array] = {}
        self.queries = 0

    # ---- numbers ---------------------------------------------------------------------------

    def draw(self, *shape: int) -> Array:
        """Return random numbers."""
        return self._drawn(self._random, shape)

    def drawn(self, name: str, *shape: int) -> Array:
        """Return random numbers that have a name, the same in every call."""
        random = np.random.default_rng((self._seed, *name.encode()))
        return self._drawn(random, shape, self._least)

    def _drawn(self, random: np.random.Generator, shape: tuple[int, ...], least: int = 0) -> Array:
        numbers = np.empty((len(self.primes), *shape), np.int64)
        for lane, prime in enumerate(self.primes):
            numbers[lane] = random.integers(least, prime, shape)
        return numbers

    def residues(self, number: Number) -> Array:
        """Return the residues of a constant."""
        if number not in self._constants:
            exact = rational(number)
            over, under = exact.numerator, exact.denominator
            residues = [over * pow(under, -1, p) % p for p in self.primes]
            self._constants[number] = np.array(residues, np.int64)
        return self._constants[number]

    @property
    def constants(self) -> frozenset[Fraction]:
        """The constants that have been met."""
        return frozenset(map(rational, self._constants))

    def constant(self, values: Array, /) -> Array:
        """Return numbers of a framework, each the simplest fraction that rounds to it."""
        each, places = np.unique(np.asarray(values, np.float64), return_inverse=True)
        residues = np.stack([self.residues(float(number)) for number in each], axis=1)
        return residues[:, places.reshape(np.shape(values))]

    def array(self, values: Array) -> Array:
        """Return residues, as a copy."""
        return np.array(values, np.int64)

    # ---- exact operations -----------------------------------------------------------------------

    def add(self, a: Array, b: Array) -> Array:
        """a + b."""
        return self._reduce(a + b)

    def subtract(self, a: Array, b: Array) -> Array:
        """a - b."""
        return self._reduce(a - b)

    def multiply(self, a: Array, b: Array) -> Array:
        """a × b."""
        return self._reduce(a * b)

    def offset(self, a: Array, number: Number) -> Array:
        """a + a constant."""
        return self._reduce(a + _along(self.residues(number), a.ndim))

    def scale(self, a: Array, number: Number) -> Array:
        """a × a constant."""
        return self._reduce(a * _along(self.residues(number), a.ndim))

    def divide(self, a: Array, count: int) -> Array:
        """a / a count."""
        return self.scale(a, Fraction(1, count))

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """The sum over axes: 63 bits suffice for 2³² terms."""
        return self._reduce(a.sum(axis=axes))

    def matmul(self, a: Array, b: Array) -> Array:
        """The matrix product, by halves of at most 16 bits.

        Sums of 2¹⁶ products of a number and a half fit in int64; sums of 2¹⁸ products of two
        sums of halves in float64, for which there is BLAS.
        """
        rows, columns, terms = a.shape[-2], b.shape[-1], a.shape[-1]
        if terms >= 2**16:
            raise ValueError(f"a sum of {terms} products is not exact")
        if columns <= _NARROW:
            upper = self._reduce(a @ (b >> 16))
            return self._reduce((upper << 16) + a @ (b & 0xFFFF))
        product = np.empty(
            (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), rows, columns), np.int64
        )
        block = max(1, _BLOCK // max(terms, columns))
        for lane, prime in enumerate(self.primes):
            right = _Halves(b[lane])
            for start in range(0, rows, block):
                part = slice(start, start + block)
                product[lane, ..., part, :] = _multiply(
                    _Halves(a[lane][..., part, :]), right, prime
                )
        return product

    def _reduce(self, a: Array) -> Array:
        """Residues, prime by prime: NumPy divides faster by one number than by an array."""
        residues = np.empty(a.shape, np.int64)
        for lane, prime in enumerate(self.primes):
            residues[lane] = _remainder(a[lane], prime)
        return residues

    # ---- opaque functions ----------------------------------------------------------------------

    def divide_by_root(self, a: Array, b: Array) -> Array:
        """a / √b."""
        return self.multiply(a, self._inverse_root(b))

    def divide_by_power(self, a: Array, b: Array, exponent: Number) -> Array:
        """a / b to a constant power."""
        return self.multiply(a, self.inverse(self.power(b, exponent)))

    def root(self, a: Array) -> Array:
        """√a."""
        return self.inverse(self._inverse_root(a))

    def _inverse_root(self, a: Array) -> Array:
        """1/√a: of 1, by which folded normalizations divide, it is 1."""
        return np.where((a == 1).all(axis=0), 1, self._opaque(a, Opaque.INVERSE_ROOT))

    def power(self, a: Array, exponent: Number) -> Array:
        """A to a constant power: its fractional part is opaque, 1/a to whole ones too."""
        exact = rational(exponent)
        if exact.denominator == 2:  # of 1/√a, as all other roots
            root = self._inverse_root(a) if exact < 0 else self.root(a)
            product = np.ones_like(a)
            for _ in range(abs(exact.numerator)):
                product = self.multiply(product, root)
            return product
        whole, part = floor(exact), exact - floor(exact)
        base = a if whole >= 0 else self._opaque(a, Opaque.INVERSE)
        factors = [base] * abs(whole)
        if part:
            factors.append(self._opaque(a, Opaque.POWER, *part.as_integer_ratio()))
        product = np.ones_like(a)
        for factor in factors:
            product = self.multiply(product, factor)
        return product

    def inverse(self, a: Array) -> Array:
        """1 / a: a to the power p - 2; of 0, which random numbers hardly are, 0."""
        result, square = np.ones_like(a), a
        exponent = _along(self._moduli - 2, a.ndim)
        for bit in range(int(exponent.max()).bit_length()):
            factor = np.where(exponent >> bit & 1, square, 1)
            result = self.multiply(result, factor)
            square = self.multiply(square, square)
        return result

    def step(self, a: Array) -> Array:
        """The derivative of ReLU where its result is ``a``."""
        return self._opaque(a, Opaque.STEP)

    def shares(self, windows: Array, present: Array) -> Array:
        """The derivative of each window's maximum: of an element, its place, and all in order."""
        placed = np.empty(windows.shape, np.int64)
        for place, (row, column) in enumerate(np.ndindex(windows.shape[-2:])):
            placed[..., row, column] = self._opaque(windows[..., row, column], Opaque.PLACED, place)
        placed *= present
        whole = self._opaque(self.total(placed, (-2, -1)), Opaque.MAXIMUM)
        return self._opaque(self.add(placed, whole[..., None, None]), Opaque.SHARE) * present

    def relu(self, a: Array) -> Array:
        """max(a, 0)."""
        return self._opaque(a, Opaque.RELU)

    def sigmoid(self, a: Array) -> Array:
        """1 / (1 + exp(-a))."""
        return self._opaque(a, Opaque.SIGMOID)

    def maximum(self, windows: Array, present: Array) -> Array:
        """The maximum of each window: a symmetric function of the present elements."""
        elements = self._opaque(windows, Opaque.ELEMENT) * present
        return self._opaque(self.total(elements, (-2, -1)), Opaque.MAXIMUM)

    def mask(self, site: int, *shape: int) -> Array:
        """Return the mask of dropout at a site: arbitrary elements, the same in every call."""
        index = np.arange(int(np.prod(shape))).reshape(1, *shape)
        every = np.broadcast_to(index, (len(self.primes), *shape))
        return self._opaque(every, Opaque.MASK, site)

    def _opaque(self, a: Array, *key: int) -> Array:
        """A random function of all residues, by two states of 64 bits.

        Distinct arguments collide in both states with a probability of about 2⁻¹²⁸.
        """
        self.queries += a[0].size
        if key not in self._keys:
            drawn = np.random.default_rng((self._seed, *key)).integers(0, 2**63, 2 + len(a))
            self._keys[key] = drawn.astype(np.uint64) * np.uint64(2) + np.uint64(1)
        keys = _along(self._keys[key], a.ndim)
        state = _absorbed(a, np.broadcast_to(keys[:2], (2, *a.shape[1:])))
        answers = _mix(state[0] + state[1] * keys[2:])
        answers %= _along(self._moduli, a.ndim).astype(np.uint64)
        return answers.astype(np.int64)


def fingerprints(a: Array) -> Array:
    """Return a number of 64 bits for all residues of each element."""
    state: Array = _absorbed(a, np.zeros((1, *a.shape[1:]), np.uint64))[0]
    return state


def _absorbed(a: Array, state: Array) -> Array:
    """States of 64 bits after all residues of each element have been mixed into them."""
    words = a.astype(np.uint64)
    for lane in range(0, len(a), 2):
        word = words[lane]
        if lane + 1 < len(a):
            word = word | (words[lane + 1] << np.uint64(32))
        state = _mix(state ^ word)
    return state


def _along(values: Array, axes: int) -> Array:
    """Reshape one value per prime to broadcast along the leading axis of arrays with ``axes``."""
    return values.reshape(-1, *(1,) * (axes - 1))


def _mix(a: Array) -> Array:
    """A bijection on 64 bits in which every input bit affects every output bit; in place."""
    for shift in (32, 29):
        a ^= a >> np.uint64(shift)
        a *= np.uint64(0xD6E8FEB86659FD93)
    a ^= a >> np.uint64(32)
    return a


class _Halves:
    """A matrix of residues as two of 15 and 16 bits, and their sum, in float64."""

    def __init__(self, a: Array) -> None:
        self.high, self.low = (a >> 16).astype(np.float64), (a & 0xFFFF).astype(np.float64)
        self.sum = self.high + self.low


def _multiply(a: _Halves, b: _Halves, prime: int) -> Array:
    """The product modulo a prime: three products of halves instead of four (Karatsuba)."""
    high, low = (a.high @ b.high).astype(np.int64), (a.low @ b.low).astype(np.int64)
    crossed = (a.sum @ b.sum).astype(np.int64)
    crossed -= high
    crossed -= low
    product = _remainder(high, prime)
    for part in (crossed, low):
        product <<= 16
        product += part
        product = _remainder(product, prime)
    return product


def _remainder(a: Array, prime: int) -> Array:
    multiple = a // prime
    multiple *= prime
    return np.asarray(a - multiple)


def collision(
    queries: int,
    argument: tuple[int, int],
    result: tuple[int, int] = (0, 0),
    lanes: int = LANES,
) -> float:
    """Bound the probability that two different networks have equal results.

    Every argument of an opaque function, and every result, is a polynomial in random numbers and
    earlier results of opaque functions. Two distinct ones are equal at random residues of a random
    prime p with a probability of at most degree / p (Schwartz and Zippel), or if p divides all
    coefficients of their difference; a number of n bits has at most n / 30 such prime factors.
    Results of opaque functions are independent as long as no two distinct arguments collide.

    Args:
        queries: the number of arguments.
        argument: the largest degree of one, and the bits of its coefficients (``Degrees``).
        result: the same of a result; default: no larger.
        lanes: the number of primes.
    """

    def coincide(polynomial: tuple[int, int]) -> float:
        degree, bits = polynomial
        divided = (bits + 1) / 30 / _PRIMES if bits else 0.0
        return float(degree / _LEAST_PRIME + divided) ** lanes

    whole = (max(argument[0], result[0]), max(argument[1], result[1]))
    return min(1.0, queries**2 / 2 * coincide(argument) + coincide(whole))


# ---- primes ----------------------------------------------------------------------------------


def _draw_primes(random: np.random.Generator, count: int) -> tuple[int, ...]:
    """Distinct random primes of 31 bits."""
    primes: dict[int, None] = {}
    while len(primes) < count:
        candidate = int(random.integers(_LEAST_PRIME, 2 * _LEAST_PRIME)) | 1
        if _is_prime(candidate):
            primes[candidate] = None
    return tuple(primes)


def _is_prime(number: int) -> bool:
    """The Miller–Rabin test; these bases are deterministic for numbers of 32 bits."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 7, 61):
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True
