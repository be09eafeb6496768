"""Systems with known answers, as weights of a learned one: linear maps, and the map of the Lorenz system."""

import numpy as np
import torch

from nwb_sbtt.models.dynamics import STEP
from nwb_sbtt.simulate.lorenz import advance_lorenz

LORENZ_STEP, FAR = 0.02, 60.0
"""Lorenz time units of a step of the map; where a SiLU is the identity."""


def become_linear(dynamics, matrix, offset=0.0, drive=None):
    """Let a system be z' = matrix z + offset + drive u, with u the first of the features of known inputs."""
    matrix = torch.as_tensor(matrix, dtype=torch.float32)
    n, (first, second, last) = len(matrix), (dynamics.field[i] for i in (0, 2, 4))
    width = first.weight.shape[1]
    change = torch.zeros(n, width)
    change[:, :n] = matrix - torch.eye(n)
    if drive is not None:
        drive = torch.as_tensor(drive, dtype=torch.float32)
        change[:, n : n + drive.shape[1]] = drive
    with torch.no_grad():
        for layer in (first, second, last):
            layer.weight.zero_()
            layer.bias.zero_()
        first.weight[:width] = second.weight[:width, :width] = torch.eye(width)
        first.bias[:width] = FAR
        last.weight[:, :width] = change / STEP
        last.bias.copy_((torch.as_tensor(offset) - FAR * change.sum(1)) / STEP)
    return dynamics


def lorenz_map(states, substeps=4):
    """States after a step."""
    return advance_lorenz(states, step=LORENZ_STEP / substeps, n_steps=substeps)


def become_lorenz(dynamics, seed=0):
    """Let a system be the map of the Lorenz system, by regression on random features; return mean and sd of its states."""
    random = np.random.default_rng(seed)
    course = [random.normal(size=(100, 3)) * 5 + [0, 0, 25]]
    for _ in range(250):
        course.append(lorenz_map(course[-1]))
    visited = np.concatenate(course[150:])
    mean, sd = visited.mean(0), visited.std(0)
    near = visited[random.permutation(len(visited))[:5000]] + 0.1 * sd * random.normal(size=(5000, 3))
    states = np.concatenate([near, 0.5 * sd * random.normal(size=(500, 3))])
    width = dynamics.config.width
    with torch.no_grad():
        for layer, scale in ((dynamics.field[0], 1.0), (dynamics.field[2], 2 / np.sqrt(width))):
            layer.weight.copy_(torch.from_numpy(random.normal(size=layer.weight.shape) * scale))
            layer.bias.copy_(torch.from_numpy(random.normal(size=width)))
        scaled = torch.from_numpy((states - mean) / sd)
        hidden = dynamics.double().field[:4](scaled)
        hidden = torch.cat([hidden, torch.ones(len(hidden), 1, dtype=torch.float64)], 1)
        change = torch.from_numpy((lorenz_map(states) - states) / sd / STEP)
        square = hidden.T @ hidden
        ridge = 1e-10 * square.diagonal().mean() * torch.eye(width + 1, dtype=torch.float64)
        weights = torch.linalg.solve(square + ridge, hidden.T @ change)
        dynamics.field[4].weight.copy_(weights[:-1].T)
        dynamics.field[4].bias.copy_(weights[-1])
    return torch.from_numpy(visited[::50]), torch.from_numpy(mean), torch.from_numpy(sd)
