"""Penalised logistic and softmax regression by Newton's method, several weightings of the same rows at once.

The objective is convex and smooth and has one minimum. It is approached until its gradient is next to nothing, so that
neither threads nor libraries decide what is seen of it. Newton's equations are solved by conjugate gradients (Lin, Weng
and Keerthi, JMLR 2008) in the basis in which the features' second moments are diagonal: there the equations' diagonal
is nearly the whole of them. The fits share every pass over the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Something of every coefficient: kernel float64 (r, f, k) and bias float64 (f, k) of f fits."""

STEPS = 100  # of Newton at most; a fit takes 4 to 12
PRODUCTS = 1000  # with the Hessian in one step at most
HALVINGS = 40
NEVER = 30.0
"""A logit that never wins, and whose loss is finite."""


@dataclass(frozen=True)
class Rows:
    """Features in a basis of their own: their coefficients are as good and smaller."""

    values: np.ndarray  # float64 (n, r), centred, its columns orthogonal
    basis: np.ndarray  # float64 (d, r), orthonormal
    mean: np.ndarray  # float64 (d,)
    moments: np.ndarray  # float64 (r,), squared norms of the columns
    single: np.ndarray  # `values` in float32

    @classmethod
    def of(cls, features: np.ndarray) -> Rows:
        """Features float64 (n, d); exact, because the penalised solution lies in the centred rows' span."""
        mean = features.mean(axis=0)
        values, basis = features - mean, None
        if len(values) < values.shape[1]:
            basis, triangle = np.linalg.qr(values.T)
            values = triangle.T
        moments, own = np.linalg.eigh(values.T @ values)
        values = values @ own
        basis = own if basis is None else basis @ own
        return cls(values, basis, mean, np.maximum(moments, 0.0), values.astype(np.float32))

    @classmethod
    def within(cls, products: np.ndarray) -> Rows:
        """Of centred features that are known by their inner products alone, float64 (n, n): what is a coefficient of a
        feature elsewhere is a weight of a row here.
        """
        moments, own = np.linalg.eigh(products)
        sizes = np.sqrt(np.where(moments > len(moments) * np.finfo(float).eps * moments[-1], moments, 0.0))
        values = own * sizes
        weights = own * np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        return cls(values, weights, np.zeros(len(sizes)), np.square(sizes), values.astype(np.float32))

    def back(self, kernel: np.ndarray, bias: np.ndarray) -> Pair:
        """Coefficients (r, k) and (k,) for `values` as ones (d, k) and (k,) for the features."""
        kernel = self.basis @ kernel
        return kernel, bias - self.mean @ kernel


class Problem:
    """The fits of one set of rows and weights, one weighting of the rows for each.

    labels: int64 (n,) below `classes`. weights: float64 (n, f), 0 for rows that a fit does not see. Two classes have
    one output, the second one's logit. A class that a fit sees no row of never wins there.
    """

    def __init__(self, rows: Rows, labels: np.ndarray, classes: int, weights: np.ndarray) -> None:
        self.rows, self.weights = rows, weights
        known = np.stack([(weights * (labels == c)[:, None]).sum(axis=0) > 0 for c in range(classes)], axis=1)
        if classes == 2:
            self.targets = (labels == 1)[:, None, None].astype(np.float64)
            learnt = known.all(axis=1, keepdims=True)
            self._bias = np.where(learnt, 0.0, np.where(known[:, 1:], NEVER, -NEVER))
        else:
            self.targets = np.eye(classes)[labels][:, None, :]
            learnt = known
            self._bias = np.where(learnt, 0.0, -NEVER)
        self._each = weights[:, :, None] * learnt
        self.shape = (rows.values.shape[1], *self._bias.shape)
        slope = self._slope(self._values(self.begin())[1], self.begin(), 0.0)
        self._scale = np.maximum(np.sqrt(_dot(slope, slope)), np.finfo(float).tiny)

    def begin(self) -> Pair:
        """Coefficients of zero."""
        return np.zeros(self.shape), self._bias

    def logits(self, at: Pair) -> np.ndarray:
        """float64 (n, f, k)."""
        return _through(self.rows.values, at[0]) + at[1]

    def solve(self, strength: float, begin: Pair, tolerance: float, pause: Callable[[], None] = lambda: None) -> Pair:
        """Minimises sum(weights * loss) + |kernel|^2 / (2 * strength) for each fit, from `begin`; the bias is free.

        Ends where the gradient's norm is `tolerance` of that at zero coefficients, or after `STEPS` steps. `pause` is
        called before every step and may raise.
        """
        penalty, at = 1.0 / strength, begin
        value, chances = self._objective(at, penalty)
        for _ in range(STEPS):
            pause()
            slope = self._slope(chances, at, penalty)
            size = np.sqrt(_dot(slope, slope)) / self._scale
            going = size > tolerance
            if not going.any():
                break
            # The nearer the end, the more exact a step (Eisenstat and Walker 1996), but no more than the end asks for
            # and single precision holds.
            exact = np.clip(np.maximum(np.sqrt(size), 0.3 * tolerance / np.maximum(size, tolerance)), 1e-3, 0.1)
            move = self._newton(chances, slope, penalty, exact, going)
            promised, step = _dot(slope, move), np.where(going, 1.0, 0.0)
            for _ in range(HALVINGS):
                there = _plus(at, -step, move)
                found, chances = self._objective(there, penalty)
                # At the end the objective no longer shows the difference, and the whole step is right.
                worse = going & ~(found <= value - 1e-4 * step * promised + 1e-12 * np.abs(value))
                if not worse.any():
                    break
                step[worse] *= 0.5
            at, value = there, found
        return at

    def gradient(self, at: Pair, strength: float) -> np.ndarray:
        """float64 (f,): the gradient's norm over that at zero coefficients."""
        slope = self._slope(self._objective(at, 1.0 / strength)[1], at, 1.0 / strength)
        return np.asarray(np.sqrt(_dot(slope, slope)) / self._scale)

    def _objective(self, at: Pair, penalty: float) -> Pair:
        """The objective (f,) and the outputs' probabilities (n, f, k)."""
        losses, chances = self._values(at)
        return (self.weights * losses).sum(axis=0) + 0.5 * penalty * np.square(at[0]).sum(axis=(0, 2)), chances

    def _values(self, at: Pair) -> Pair:
        """Losses (n, f) and probabilities (n, f, k)."""
        logits = self.logits(at)
        if logits.shape[2] == 1:
            softplus = np.logaddexp(0.0, logits)
            return (softplus - self.targets * logits)[:, :, 0], np.exp(logits - softplus)
        logits -= logits.max(axis=2, keepdims=True)
        chances = np.exp(logits)
        sums = chances.sum(axis=2, keepdims=True)
        return np.log(sums)[:, :, 0] - (self.targets * logits).sum(axis=2), chances / sums

    def _slope(self, chances: np.ndarray, at: Pair, penalty: float) -> Pair:
        apart = self._each * (chances - self.targets)
        return _back(self.rows.values, apart) + penalty * at[0], apart.sum(axis=0)

    def _newton(
        self, chances: np.ndarray, slope: Pair, penalty: float, tolerance: np.ndarray, going: np.ndarray
    ) -> Pair:
        """Newton's steps, each to its own tolerance, by conjugate gradients with the equations' diagonal for rows of
        mean curvature as the preconditioner. Zero where not `going`.
        """
        rows, spread = self.rows, self._each * chances * (1.0 - chances)
        curvature = spread.sum(axis=0)
        diagonal = rows.moments[:, None, None] * (curvature / len(spread)) + penalty, curvature + 1e-12

        def hessian(of: Pair) -> Pair:
            z = _through(rows.single, of[0]) + of[1]
            z = spread * z if len(curvature.T) == 1 else self._each * chances * (z - _sum(chances * z))
            return _back(rows.single, z) + penalty * of[0], z.sum(axis=0)

        found: Pair = (np.zeros_like(slope[0]), np.zeros_like(slope[1]))
        left, scaled = slope, (slope[0] / diagonal[0], slope[1] / diagonal[1])
        way, size = scaled, _dot(slope, scaled)
        goal, going = size * np.square(tolerance), going & (size > 0)
        for _ in range(PRODUCTS):
            if not going.any():
                break
            bent = hessian(way)
            curved = _dot(way, bent)
            going = going & (curved > 0)
            length = np.where(going, size / np.where(going, curved, 1.0), 0.0)
            found, left = _plus(found, length, way), _plus(left, -length, bent)
            scaled = (left[0] / diagonal[0], left[1] / diagonal[1])
            before, size = size, _dot(left, scaled)
            going = going & (size > goal)
            way = _plus(scaled, np.where(going, size / np.where(going, before, 1.0), 0.0), way)
        return found


def _through(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(n, r) times (r, f, k): (n, f, k), in the precision of `values`."""
    flat = values @ kernel.reshape(len(kernel), -1).astype(values.dtype, copy=False)
    return np.asarray(flat.reshape(-1, *kernel.shape[1:]))


def _back(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(n, r) transposed times (n, f, k): (r, f, k), in the precision of `values`."""
    flat = values.T @ at.reshape(len(at), -1).astype(values.dtype, copy=False)
    return np.asarray(flat.reshape(-1, *at.shape[1:]))


def _sum(at: np.ndarray) -> np.ndarray:
    return np.asarray(at.sum(axis=2, keepdims=True))


def _plus(one: Pair, times: np.ndarray, other: Pair) -> Pair:
    """one + times * other, with a number for each fit."""
    by = times[:, None]
    return one[0] + by * other[0], one[1] + by * other[1]


def _dot(one: Pair, other: Pair) -> np.ndarray:
    """float64 (f,)."""
    return np.asarray(np.einsum("rfk,rfk->f", one[0], other[0]) + np.einsum("fk,fk->f", one[1], other[1]))
