"""DropPath whose mask comes from the step's draw, so that all views of a sample share it (paper code, section 1.3 of our notes)."""

from __future__ import annotations

from torch import Tensor, nn

from pace_tune.methods.context import LaneContext


class SharedDropPath(nn.Module):
    """Drops a residual branch per sample, by the multipliers drawn for this step; the identity without a draw.

    Args:
        original: The module that it stands for, put back by `remove` and `merge`.
        rate: Drop probability that the model was built with.
    """

    def __init__(self, name: str, original: nn.Module, context: LaneContext, *, rate: float) -> None:
        super().__init__()
        self.name, self.context, self.rate = name, context, rate
        self.key = name  # as in `Site`
        # Kept out of the module tree: nothing trains in it and its name must not appear in state dicts.
        self._original = (original,)

    @property
    def original(self) -> nn.Module:
        """The module that this one replaces."""
        return self._original[0]

    def forward(self, x: Tensor) -> Tensor:
        """Multiply x (rows, ...) by its row's multiplier."""
        draw = self.context.draw
        mask_KR = None if draw is None else draw.drop_path.get(self.key)
        if mask_KR is None:
            return x
        # Before the rows split into views, a sample's one row takes the multiplier that all its views share.
        mask_KR = mask_KR[:, : self.context.rows]
        return (self.context.per_lane(x) * mask_KR[:, :, None, None].to(x.dtype)).reshape(x.shape)
