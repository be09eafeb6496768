import torch
from torch.distributions import Normal, kl_divergence

from nwb_sbtt.nn.priors import InputPrior, kl_to_gaussian


def test_kl_of_gaussians_equals_the_library():
    torch.manual_seed(0)
    mean, log_sd, prior_mean, prior_log_sd = torch.randn(5, 3), torch.randn(5, 3), torch.randn(3), torch.randn(3)
    expected = kl_divergence(Normal(mean, log_sd.exp()), Normal(prior_mean, prior_log_sd.exp())).sum(-1)
    torch.testing.assert_close(kl_to_gaussian(mean, log_sd, prior_mean, prior_log_sd), expected)


def test_kl_of_autoregressive_inputs_averages_to_the_exact_one():
    """Against the KL of the joint Gaussians over all steps: diagonal posterior, Toeplitz prior covariance."""
    torch.manual_seed(0)
    n_steps, tau, sd = 6, 3.0, 0.5
    prior = InputPrior("autoregressive", 1, tau=tau, sd=sd)
    mean, log_sd = torch.randn(n_steps, 1, 1) * 0.5, torch.randn(n_steps, 1, 1) * 0.3 - 1
    lags = torch.arange(n_steps)[:, None] - torch.arange(n_steps)
    covariance = sd**2 * torch.exp(-lags.abs() / tau)
    exact = kl_divergence(
        torch.distributions.MultivariateNormal(mean[:, 0, 0], torch.diag(log_sd[:, 0, 0].exp() ** 2)),
        torch.distributions.MultivariateNormal(torch.zeros(n_steps), covariance),
    )
    n = 20000
    many = mean.expand(-1, n, -1), log_sd.expand(-1, n, -1)
    estimate = prior.kl(*many, many[0] + many[1].exp() * torch.randn(n_steps, n, 1)).mean()
    torch.testing.assert_close(estimate, exact, rtol=0.01, atol=0.01)


def test_independent_inputs_have_the_plain_kl():
    prior = InputPrior("gaussian", 2, tau=5.0, sd=0.3)
    mean, log_sd = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    expected = kl_divergence(Normal(mean, log_sd.exp()), Normal(torch.zeros(2), torch.full((2,), 0.3))).sum((0, 2))
    torch.testing.assert_close(prior.kl(mean, log_sd, torch.randn(4, 3, 2)), expected)
