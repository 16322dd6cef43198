"""The rotation nearest to a 3×3 matrix, without a singular value decomposition.

It maximises trace(Rᵀ M). Over quaternions that is the top eigenvector of a symmetric 4×4 matrix, found by
squaring the matrix until one direction remains: a fixed number of products, no branch, no host
synchronisation. The gradient is analytic; differentiating through an SVD is ill-conditioned near rotations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_SQUARINGS = 24  # separates eigenvalues whose ratio differs from one by 1e-6; if closer, R is undefined
_DAMPING = 1e-3


class _NearestRotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor) -> Tensor:
        r = _from_quaternion(_top_eigenvector(_profile(m.double())))
        ctx.save_for_backward(m, r)
        return r.to(m.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """With M = R S, a change dM rotates R by the skew Ω that solves Ω S + S Ω = Rᵀ dM - dMᵀ R."""
        m, r = ctx.saved_tensors
        s = r.mT @ m.double()
        s = (s + s.mT) / 2
        identity = torch.eye(3, dtype=s.dtype, device=s.device)
        p = s.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] * identity - s
        a = r.mT @ gradient.double()
        a = _axis(a - a.mT)[..., None]
        # p is singular where R is undefined; damped, the gradient stays bounded there.
        w, _ = torch.linalg.solve_ex(p @ p + _DAMPING**2 * identity, p @ a)
        return (r @ _skew(w[..., 0])).to(m.dtype)


def nearest_rotation(m: Tensor) -> Tensor:
    """Return the proper rotation nearest to m (..., 3, 3) in the Frobenius norm."""
    return _NearestRotation.apply(m)


def _profile(m: Tensor) -> Tensor:
    """(..., 4, 4) symmetric K with qᵀ K q = trace(R(q)ᵀ M) for unit quaternions q = (w, x, y, z)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in m.unbind(-2))
    wx, wy, wz = zy - yz, xz - zx, yx - xy
    return torch.stack(
        [
            torch.stack([xx + yy + zz, wx, wy, wz], -1),
            torch.stack([wx, xx - yy - zz, xy + yx, xz + zx], -1),
            torch.stack([wy, xy + yx, yy - xx - zz, yz + zy], -1),
            torch.stack([wz, xz + zx, yz + zy, zz - xx - yy], -1),
        ],
        -2,
    )


def _top_eigenvector(k: Tensor) -> Tensor:
    bound = k.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)  # no eigenvalue lies below -bound
    p = k / bound + torch.eye(4, dtype=k.dtype, device=k.device)
    for _ in range(_SQUARINGS):
        p = p @ p
        p = p / p.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    largest = p.diagonal(dim1=-2, dim2=-1).argmax(-1)  # p is q qᵀ: its largest column is the safest
    q = p.gather(-1, largest[..., None, None].expand(*p.shape[:-1], 1))[..., 0]
    return q / q.norm(dim=-1, keepdim=True)


def _from_quaternion(q: Tensor) -> Tensor:
    w, v = q[..., :1, None], q[..., 1:]
    turn = 2 * (v[..., :, None] * v[..., None, :] + w * _skew(v))
    return turn + (1 - 2 * v.square().sum(-1))[..., None, None] * torch.eye(3, dtype=q.dtype, device=q.device)


def _skew(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))


def _axis(skew: Tensor) -> Tensor:
    return torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
