"""What the pages of docs/ show can be typed, and can be read by the programs that it is for."""

import re
from pathlib import Path

import click
import pytest
import yaml
from typer.main import get_command

from nwb_sbtt import plot
from nwb_sbtt.cli import main as cli

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", ["clusters.md", "kubernetes.md", "decoding.md"])
def test_commands_of_a_page_are_taken_with_all_their_options(page):
    lines = [line.partition(" #")[0] for block in blocks(page, "bash") for line in block.splitlines()]
    manifests = [yaml.safe_load(block) for block in blocks(page, "yaml")]
    lines += [manifest["spec"]["entrypoint"] for manifest in manifests]
    commands = [line for line in lines if line.startswith("nwb-sbtt ")]
    assert commands
    verbs = get_command(cli.app).commands
    for line in commands:
        name, *words = [word.strip("'") for word in line.split()[1:]]
        with click.Context(get_command(cli.app)) as parent:
            assert verbs[name].make_context(name, words, parent=parent).params


def test_the_manifest_has_the_fields_of_kuberay_and_one_volume_for_all_pods():
    (text,) = blocks("kubernetes.md", "yaml")
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) == {
        "entrypoint",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    }
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    (workers,) = cluster["workerGroupSpecs"]
    assert set(workers) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    for group in (cluster["headGroupSpec"], workers):
        (container,) = group["template"]["spec"]["containers"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert container["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]
        assert group["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "recordings"
    (image,) = blocks("kubernetes.md", "dockerfile")
    assert f"rayproject/ray:{cluster['rayVersion']}-" in image


def test_the_gallery_draws_every_picture():
    """What it draws is run when the site is built."""
    code = "\n".join(blocks("gallery.md", r"\{code-cell\} python"))
    assert set(re.findall(r"sb\.plot\.(\w+)", code)) >= set(plot.__all__) - {
        "condition_courses",
        "inputs",
        "true_latents",
    }
