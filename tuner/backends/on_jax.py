"""JAX: functions compiled by XLA, all state passed in and given back."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tuner.artifacts import own
from tuner.artifacts.files import cache_root, prune
from tuner.backends import processor
from tuner.backends.seam import Backend, Compiled, Stepper

COMPILED = 2_000_000_000
"""Bytes of compiled programs that earlier processes leave to the next one."""


class JitStepper(Stepper):
    """The step as one program that takes all variables and gives them back."""

    def _compile(self) -> Compiled:
        model = self.model
        position = {id(v): i for i, v in enumerate(model.trainable_variables)}
        members = [[position[id(v)] for v in variables] for _, variables in self.groups]
        kernel = [len(v.shape) > 1 for v in model.trainable_variables]

        def objective(trained: Any, fixed: Any, x: Any, y: Any, weights: Any, rows: Any) -> Any:
            logits, fixed = model.stateless_call(trained, fixed, x, training=True)
            total = jnp.sum(self.loss(y, logits) * weights)
            return total / rows, (total, jnp.sum(self.correct(y, logits) * (weights > 0)), fixed)

        def differentiate(trained: Any, fixed: Any, x: Any, y: Any, weights: Any, rows: Any) -> Any:
            found, (total, right, fixed) = jax.grad(objective, has_aux=True)(trained, fixed, x, y, weights, rows)
            return found, fixed, total, right

        def move(trained: Any, slots: Any, gradients: Any, decays: Any) -> Any:
            trained, new_slots = list(trained), []
            *slots, averages = slots
            for (optimizer, _), mine, slot, decay in zip(self.groups, members, slots, decays[:-1], strict=True):
                values = [trained[i] - trained[i] * decay if kernel[i] else trained[i] for i in mine]
                values, slot = optimizer.stateless_apply(slot, [gradients[i] for i in mine], values)
                for i, value in zip(mine, values, strict=True):
                    trained[i] = value
                new_slots.append(slot)
            keep = decays[-1]
            averages = [keep * a + (1.0 - keep) * v for a, v in zip(averages, trained, strict=False)]
            return trained, [*new_slots, averages]

        def train(trained: Any, fixed: Any, slots: Any, x: Any, y: Any, weights: Any, rows: Any, decays: Any) -> Any:
            self.traces += 1
            gradients, fixed, total, right = differentiate(trained, fixed, x, y, weights, rows)
            trained, slots = move(trained, slots, gradients, decays)
            return trained, fixed, slots, total, right

        trains, differentiates, moves = jax.jit(train, donate_argnums=(0, 2)), jax.jit(differentiate), jax.jit(move)
        infers = jax.jit(lambda t, n, x: model.stateless_call(t, n, x, training=False)[0])

        def step(*batch: Any) -> tuple[Any, Any]:
            trained, fixed, slots, total, right = trains(*self._values(), *batch)
            self._assign(trained, fixed, slots)
            return total, right

        def gradients_of(*piece: Any) -> tuple[Any, Any, Any]:
            trained, fixed, _ = self._values()
            found, fixed, total, right = differentiates(trained, fixed, *piece)
            self._assign(fixed=fixed)
            return found, total, right

        def move_by(gradients: Any, decays: Any) -> None:
            trained, _, slots = self._values()
            trained, slots = moves(trained, slots, gradients, decays)
            self._assign(trained, slots=slots)

        def forward(x: Any) -> Any:
            trained, fixed, _ = self._values()
            return infers(trained, fixed, x)

        return step, gradients_of, move_by, forward

    @property
    def _slots(self) -> list[list[Any]]:
        return [*(optimizer.variables for optimizer, _ in self.groups), self.averages]

    def _values(self) -> tuple[list[Any], list[Any], list[list[Any]]]:
        """Trainable variables, the others, and each optimizer's slots and the averages, as JAX arrays."""
        model = self.model
        slots = [[v.value for v in variables] for variables in self._slots]
        return [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables], slots

    def _assign(self, trained: Any = None, fixed: Any = None, slots: Any = None) -> None:
        pairs = [(self.model.trainable_variables, trained), (self.model.non_trainable_variables, fixed)]
        pairs += list(zip(self._slots, slots or [], strict=False))
        for variables, values in pairs:
            for variable, value in zip(variables, values if values is not None else [], strict=False):
                variable.assign(value)


class Jax(Backend):
    """Keras on JAX."""

    name = "jax"
    stepper = JitStepper

    def start(self) -> None:
        _keep_compiled()

    def allow_tf32(self, allowed: bool) -> None:
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if allowed else "float32")

    def facts(self) -> dict[str, Any]:
        told = os.environ.get("NPROC", "")  # XLA takes its number of threads from there
        return {
            "jax": jax.__version__,
            "devices": [str(d.device_kind) for d in jax.devices() if d.platform != "cpu"] or ["CPU"],
            "threads": str((int(told) if told.isdecimal() else 0) or processor.cores()),
            "tf32": jax.config.jax_default_matmul_precision not in ("float32", "highest"),
        }

    def call(self, model: Any) -> Callable[[np.ndarray], Any]:
        trained = [v.value for v in model.trainable_variables]
        fixed = [v.value for v in model.non_trainable_variables]
        compiled = jax.jit(lambda t, n, x: model.stateless_call(t, n, x, training=False)[0])
        return lambda x: compiled(trained, fixed, x)


def _keep_compiled() -> None:
    """What XLA compiled for JAX is found by the next process: at 72 photographs it takes longer than training."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        # One folder a kind of machine: programs for one processor need not run on another that shares a home.
        folder = cache_root() / "jax" / f"{platform.node()}-{jax.__version__}"
        try:
            own.make_private(folder.parent)  # programs are run from there
        except OSError:
            return
        prune(folder.parent.glob("*/*-cache"), COMPILED)  # JAX's own limit wants a further package
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
