"""One update of both networks, and the state that a training carries from update to update."""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adae_edge.errors import CheckpointError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import ADAE, Autoencoder
from adae_edge.train.balance import Balance
from adae_edge.train.device import mixed_precision
from adae_edge.train.distributed import ALONE, Group, share_batch_norm
from adae_edge.train.recipes import Recipe

# The part of batch norm's running statistics that a batch replaces, PyTorch's default.
MOMENTUM = 0.1


class Run:
    """The state that a training carries from update to update: optimizers and balance."""

    def __init__(
        self, model: ADAE, recipe: Recipe, group: Group = ALONE, compiled: bool = False
    ) -> None:
        """
        Args:
            model: the networks; in a group they are changed to share their batch norm.
            recipe: the hyper-parameters.
            group: the processes that train together.
            compiled: compute the gradients by what ``torch.compile`` makes of the networks.
        """
        self.model = model
        self.recipe = recipe
        self.group = group
        if group.size > 1:
            share_batch_norm(model)
        # Wrapped here and not in the model, so that scoring compiles nothing again for batches of
        # other sizes.
        self.generator, self.discriminator = (
            torch.compile(network) if compiled else network
            for network in (model.generator, model.discriminator)
        )
        self._keep_slopes(recipe.slope_floor)
        self.balance = Balance(recipe.slope, recipe.gamma)
        self.precision = mixed_precision(model)
        self.lr_g = self.lr_d = 0.0
        self.adam_g = self._adam(model.generator)
        self.adam_d = self._adam(model.discriminator)

    def update(self, x: Tensor, progress: float) -> tuple[float, float, float]:
        """One update of both networks.

        Args:
            x: float32 [N, C, S, S]; in a group of processes, this one's part of the batch.
            progress: the part of the training that is done, 0 to 1.

        Returns:
            The means of ||x - D(x)||_1, ||G(x) - D(G(x))||_1 and ||x - G(x)||_1 per pixel, over the
                whole batch.
        """
        # gradients, averaged over the processes
        self.adam_g.zero_grad()
        self.adam_d.zero_grad()
        if self.recipe.adversarial:
            losses = self.gradients(x)
        else:
            losses = self.gradients_of_generator_alone(x)
        losses = self.group.average(_gradients(self.model), losses)

        # learning rates
        self.balance.update(losses[0], losses[1])
        rate = self.recipe.learning_rate
        if self.recipe.cosine:
            rate *= 0.5 * (1 + math.cos(math.pi * progress))
        self.lr_d = rate * self.balance.share_d
        self.lr_g = rate - self.lr_d
        self.adam_g.param_groups[0]["lr"] = self.lr_g
        self.adam_d.param_groups[0]["lr"] = self.lr_d

        # steps
        self.adam_g.step()
        self.adam_d.step()
        return losses

    def gradients(self, x: Tensor) -> tuple[float, float, float]:
        """Put the gradients of L_G into G's parameters and those of L_D into D's.

        Returns:
            The losses, as ``update`` returns them.
        """
        with self.precision:
            generated, real = self.generator(x), self.real(x)
            fake = generated.detach().requires_grad_()
            again = self.again(fake)
        loss_generator = (x - generated.float()).abs().mean()
        loss_real = (x - real.float()).abs().mean()
        loss_fake = (fake.float() - again.float()).abs().mean()

        # L_G = ||x - G(x)|| + a ||G(x) - D(G(x))|| moves G alone; L_D = ||x - D(x)|| - k ||G(x) -
        # D(G(x))|| moves D alone. Both share the generated term's gradient, so one pass back
        # through D serves both: D's part of it is weighed and turned around, and what arrives at
        # G(x) goes on into G.
        loss_fake.backward()
        torch._foreach_mul_(_gradients(self.model.discriminator), -self.balance.fake_weight)
        torch.autograd.backward(
            [loss_generator + loss_real, generated], [None, self.recipe.adversarial * fake.grad]
        )
        return loss_real.item(), loss_fake.item(), loss_generator.item()

    def gradients_of_generator_alone(self, x: Tensor) -> tuple[float, float, float]:
        """Put the gradient of ||x - G(x)||_1 into G's parameters: the paper's plain autoencoder.

        Returns:
            The losses, as ``update`` returns them.
        """
        with self.precision:
            generated = self.generator(x)
        loss_generator = (x - generated.float()).abs().mean()
        loss_generator.backward()
        return 0.0, 0.0, loss_generator.item()

    def position(self, epoch: int) -> dict[str, Any]:
        """What the checkpoint's header keeps beside the tensors, after ``epoch`` whole epochs."""
        return {"epoch": epoch, "fake_weight": self.balance.fake_weight}

    def state(self) -> dict[str, NDArray[Any]]:
        """The optimizers' tensors by name."""
        tensors: dict[str, Tensor] = {}
        for name, adam in (("g", self.adam_g), ("d", self.adam_d)):
            for index, state in adam.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{key}": value for key, value in state.items()}
        return arrays(tensors)

    def restore(self, checkpoint: Checkpoint) -> int:
        """Take over the state of an unfinished checkpoint; returns how many epochs are done.

        Raises:
            CheckpointError: it does not hold the state of these networks' training.
        """
        try:
            weights = {
                name: torch.from_numpy(value.copy()) for name, value in checkpoint.weights.items()
            }
            self.model.load_state_dict(weights)
            for network, adam in (("g", self.adam_g), ("d", self.adam_d)):
                _restore_adam(adam, network, checkpoint.state)
            self.balance.fake_weight = float(checkpoint.training["fake_weight"])
            return int(checkpoint.training["epoch"])
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                "the checkpoint does not hold the state of an unfinished training"
            ) from error

    def real(self, x: Tensor) -> Tensor:
        """What D makes of the frames themselves, float [N, C, S, S]; its statistics stay.

        D scores G's frames and nothing else, so the running statistics of its batch norm are of
        those alone. Those of both together fit neither, see docs/method.md.
        """
        self._keep_statistics(0.0)
        real: Tensor = self.discriminator(x)
        self._keep_statistics(MOMENTUM)
        return real

    def again(self, fake: Tensor) -> Tensor:
        """What D makes of G's frames, float [N, C, S, S], with no floor under its tanh's slope.

        D's part of this pass is turned around, so that a floor would lead away from 0.
        """
        self._keep_slopes(0.0)
        again: Tensor = self.discriminator(fake)
        self._keep_slopes(self.recipe.slope_floor)
        return again

    def _keep_slopes(self, floor: float) -> None:
        """Set the floor under the slope of both last layers."""
        for network in (self.model.generator, self.model.discriminator):
            if isinstance(network, Autoencoder):
                network.output.floor = floor

    def _keep_statistics(self, momentum: float) -> None:
        """Set how much of D's running statistics a batch replaces."""
        for layer in self.model.discriminator.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = momentum

    def _adam(self, network: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(
            network.parameters(), lr=0.0, betas=(self.recipe.beta1, 0.999), fused=True
        )


def _restore_adam(adam: torch.optim.Adam, network: str, tensors: dict[str, NDArray[Any]]) -> None:
    """Give the optimizer of network "g" or "d" its tensors back, of those of ``Run.state``."""
    parameters = adam.param_groups[0]["params"]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        owner, number, field = name.split(".")
        if owner != network:
            continue
        tensor, parameter = torch.from_numpy(value.copy()), parameters[int(number)]
        if tensor.shape == parameter.shape:
            # A moment must lie in memory as its parameter does.
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(number), {})[field] = tensor
    adam.load_state_dict({"state": state, "param_groups": adam.state_dict()["param_groups"]})


def _gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def arrays(tensors: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors by name, as arrays in the CPU's memory."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
