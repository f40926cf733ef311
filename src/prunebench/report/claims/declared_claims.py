"""The papers' claims, declared: statement, measured effect, and the runs that it is measured on.

To add a claim, add an entry here and, if no experiment has its runs, a file in config/experiments.
Statements are in our own words. Several papers were read in part only (README, "Known
limitations"); a source says "abstract" or "code" where the body was not available.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunebench.report.claims.claim_verdict import Kind
from prunebench.report.claims.effects import (
    ADDITIVITY_CORRELATION,
    ADDITIVITY_ERROR,
    CONVERGENCE,
    EARLY_ACCURACY,
    SELECTION,
    Contrast,
    Effect,
    Quantity,
    Rank,
    VarianceShares,
    Variant,
)

EQUAL_POINTS = 0.5  # points of accuracy that we call practically equal
EQUAL_EPOCHS = 0.5
EQUAL_SHARE = 0.1  # of a variance, a rank or a relative error
EQUAL_FACTOR = 0.1  # decimal logarithm: 1.26 times
TENFOLD = 1.0  # decimal logarithm of a factor of 10

CIFAR = "cifar10_resnet20"


@dataclass(frozen=True)
class Unit:
    """How an effect is printed."""

    name: str
    is_log10: bool = False  # printed as a factor
    digits: int = 2


POINTS = Unit("points")
EPOCHS = Unit("epochs", digits=1)
FACTOR = Unit("×", is_log10=True)
SHARE = Unit("share")
PLACES = Unit("rank")
CORRELATION = Unit("correlation")


@dataclass(frozen=True)
class Source:
    """An experiment that has the runs of a claim, and the effect on them."""

    experiment: str
    effect: Effect


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of a paper.

    Attributes
    ----------
    label
        The compared quantity in a few words, for figures.
    question
        The claim as a question, if it is in the short table.
    sources
        Where the effect can be measured, the preferred one first; empty if `needs` is given.
    bound
        The effect must exceed it, for kind "more".
    equality
        Largest distance from the bound that is practically equal.
    after
        Command that measures the finished runs, if the workflow does not.
    needs
        What testing the claim would take, if it has no sources.
    """

    id: str
    paper: str
    statement: str
    where: str
    label: str = ""
    question: str = ""
    measured: str = ""
    sources: tuple[Source, ...] = ()
    kind: Kind = "more"
    unit: Unit = POINTS
    bound: float = 0.0
    equality: float = EQUAL_POINTS
    after: str = ""
    needs: str = ""


def difference(ours: Variant, theirs: Variant, **more: Quantity) -> Contrast:
    """Return the paired difference of two variants, in accuracy unless told otherwise."""
    return Contrast({ours: 1.0, theirs: -1.0}, **more)


def interaction(
    first: Variant, its_control: Variant, second: Variant, its_control_too: Variant
) -> Contrast:
    """Return (first - its control) - (second - its control), in accuracy."""
    return Contrast({first: 1.0, its_control: -1.0, second: -1.0, its_control_too: 1.0})


def times_faster(ours: Variant, *theirs: Variant) -> Contrast:
    """Return the decimal logarithm of others' selection time (geometric mean) over ours."""
    return Contrast({**dict.fromkeys(theirs, 1.0 / len(theirs)), ours: -1.0}, SELECTION)


_GREG, _SOFT, _EPRUNER = "claims_greg", "claims_srfp", "claims_epruner"
_FISHER, _INCREG, _ORTHO = "claims_group_fisher", "claims_increg", "claims_orthoreg"
_EARLY, _BASELINES = "claims_early_bird", "claims_baselines"

L1, GREG_1, GREG_2 = Variant("l1"), Variant("greg_1"), Variant("greg_2")
L1_EQUAL = Variant("l1", "equal_epochs")
SFP, SRFP, ASFP, ASRFP = (Variant(name) for name in ("sfp", "srfp", "asfp", "asrfp"))
EPRUNER, GROUP_FISHER, INCREG = Variant("epruner"), Variant("group_fisher"), Variant("increg")
DATA_CRITERIA = tuple(Variant(name) for name in ("taylor", "fisher", "grasp"))
ORTHO, PLAIN = Variant("orthoreg"), Variant("orthoreg", "plain")
ROUNDS, ROUNDS_PLAIN = Variant("orthoreg", "rounds"), Variant("orthoreg", "rounds_plain")
DENSE, DENSE_PLAIN = Variant("orthoreg", "dense"), Variant("orthoreg", "dense_plain")
CRITERIA = ("random", "l1", "fpgm", "bn_scale", "taylor", "mask_fisher")
CIFAR_CRITERIA = ("random", "l1", "fpgm", "taylor", "fisher", "mask_fisher")
RECIPES = ("default", "low_lr")

CLAIMS = (
    Claim(
        id="G1",
        paper="greg",
        statement="GReg-1 beats L1 one-shot pruning when both remove the same filters and are "
        "fine-tuned alike",
        where="Table 1",
        label="GReg-1 − L1, same fine-tuning",
        question="GReg-1 beats L1 at the same widths?",
        measured="top-1 of greg_1 − l1; greg_1 trains longer by its pruning epochs",
        sources=(Source(_GREG, difference(GREG_1, L1)),),
    ),
    Claim(
        id="G1-fair",
        paper="greg",
        statement="GReg-1 also beats L1 that is trained for as many epochs in total",
        where="not in the paper; level SX-A of arXiv 2301.05219",
        label="GReg-1 − L1, same total epochs",
        measured="top-1 of greg_1 − l1, equal total epochs (on digits 15.9 and 16)",
        sources=(
            Source(CIFAR, difference(GREG_1, L1)),
            Source(_GREG, difference(GREG_1, L1_EQUAL)),
        ),
    ),
    Claim(
        id="G2",
        paper="greg",
        statement="A growing penalty separates weights by the curvature of the loss",
        where="Eq. 3–8",
        needs="the Hessian's diagonal of a trained network beside its shrinkage",
    ),
    Claim(
        id="G3",
        paper="greg",
        statement="Picking filters under a growing penalty (GReg-2) beats picking by L1 norm "
        "(GReg-1)",
        where="Tables 2–4",
        label="GReg-2 − GReg-1",
        measured="top-1 of greg_2 − greg_1",
        sources=(
            Source(CIFAR, difference(GREG_2, GREG_1)),
            Source(_GREG, difference(GREG_2, GREG_1)),
        ),
    ),
    Claim(
        id="G4",
        paper="greg",
        statement="The growing penalty also beats one-shot pruning of single weights",
        where="Table 4",
        label="GReg-1 − L1, single weights",
        measured="top-1 of greg_1 − l1, 90 % of the weights; greg_1 trains longer",
        sources=(
            Source(_GREG, difference(Variant("greg_1", "weights"), Variant("l1", "weights"))),
        ),
    ),
    Claim(
        id="SF1",
        paper="srfp",
        statement="Decaying pruned filters (SRFP) beats setting them to zero (SFP)",
        where="abstract",
        label="SRFP − SFP",
        question="SRFP beats SFP?",
        measured="top-1 of srfp − sfp",
        sources=(Source(_SOFT, difference(SRFP, SFP)),),
    ),
    Claim(
        id="SF1-asymptotic",
        paper="srfp",
        statement="The same holds while the pruned share rises: ASRFP beats ASFP",
        where="abstract",
        label="ASRFP − ASFP",
        measured="top-1 of asrfp − asfp",
        sources=(Source(_SOFT, difference(ASRFP, ASFP)),),
    ),
    Claim(
        id="SF2",
        paper="srfp",
        statement="SRFP converges more slowly than SFP",
        where="abstract",
        label="SRFP − SFP, epochs to converge",
        measured="epochs until the pruned network stays within 0.5 points of its last accuracy, "
        "srfp − sfp",
        sources=(Source(_SOFT, difference(SRFP, SFP, quantity=CONVERGENCE)),),
        unit=EPOCHS,
        equality=EQUAL_EPOCHS,
    ),
    Claim(
        id="SF3",
        paper="srfp",
        statement="Decay also beats zeroing for single weights",
        where="abstract",
        label="SRFP − SFP, single weights",
        measured="top-1 of srfp − sfp, 90 % of the weights",
        sources=(Source(_SOFT, difference(Variant("srfp", "weights"), Variant("sfp", "weights"))),),
    ),
    Claim(
        id="SF4",
        paper="srfp",
        statement="The decay is an incremental regularization of the pruned filters",
        where="abstract",
        needs="no experiment: an identity, α F = F − η μ F with μ = (1 − α) / η",
    ),
    Claim(
        id="E1",
        paper="epruner",
        statement="Selection is an order of magnitude faster than criteria that need data",
        where="abstract, of a CPU against GPUs",
        label="selection time, data criteria / EPruner",
        measured="selection seconds of taylor, fisher and grasp (geometric mean) over those of "
        "epruner, on one CPU; its search for beta is included",
        sources=(
            Source(CIFAR, times_faster(EPRUNER, Variant("taylor"), Variant("fisher"))),
            Source(_EPRUNER, times_faster(EPRUNER, *DATA_CRITERIA)),
        ),
        unit=FACTOR,
        bound=TENFOLD,
        equality=EQUAL_FACTOR,
    ),
    Claim(
        id="E2",
        paper="epruner",
        statement="Exemplars' weights are a better start than their random projection",
        where="abstract; README tables",
        label="exemplars − random projection",
        question="EPruner's exemplars are the better start?",
        measured="top-1 of epruner − epruner/random_project, same widths",
        sources=(Source(_EPRUNER, difference(EPRUNER, Variant("epruner", "random_project"))),),
    ),
    Claim(
        id="E2-random",
        paper="epruner",
        statement="Exemplars' weights are a better start than random weights",
        where="abstract; README tables",
        label="exemplars − random weights",
        measured="top-1 of epruner − epruner/random, same widths",
        sources=(Source(_EPRUNER, difference(EPRUNER, Variant("epruner", "random"))),),
    ),
    Claim(
        id="E3-widths",
        paper="epruner",
        statement="Widths from the number of exemplars beat the same share of every layer",
        where="abstract (adaptive number per layer)",
        label="EPruner's widths − uniform, L1",
        measured="top-1 of l1 with epruner's widths − l1 with uniform shares, equal MACs",
        sources=(Source(_EPRUNER, difference(Variant("l1", "epruner_widths"), L1)),),
    ),
    Claim(
        id="E3-filters",
        paper="epruner",
        statement="At its own widths, keeping exemplars beats keeping the filters of largest norm",
        where="abstract",
        label="exemplars − L1, same widths",
        measured="top-1 of epruner − l1 with epruner's widths; epruner also resets batch norm",
        sources=(Source(_EPRUNER, difference(EPRUNER, Variant("l1", "epruner_widths"))),),
    ),
    Claim(
        id="O1",
        paper="orthoreg",
        statement="Orthonormal filters make the importance of a group the sum of its filters'",
        where="abstract",
        label="error of sums, plain − penalty",
        question="OrthoReg makes group importance additive?",
        measured="relative error of the sum as an estimate of a group's importance "
        "(`prunebench additivity`): without the penalty − with it",
        sources=(Source(_ORTHO, difference(DENSE_PLAIN, DENSE, quantity=ADDITIVITY_ERROR)),),
        after=f"prunebench additivity --experiment {_ORTHO}",
        unit=SHARE,
        equality=EQUAL_SHARE,
    ),
    Claim(
        id="O1-order",
        paper="orthoreg",
        statement="With orthonormal filters, the sum also ranks groups better",
        where="abstract",
        label="rank correlation, penalty − plain",
        measured="rank correlation of sum and importance over random groups: with the penalty − "
        "without",
        sources=(Source(_ORTHO, difference(DENSE, DENSE_PLAIN, quantity=ADDITIVITY_CORRELATION)),),
        after=f"prunebench additivity --experiment {_ORTHO}",
        unit=CORRELATION,
        equality=EQUAL_SHARE,
    ),
    Claim(
        id="O2",
        paper="orthoreg",
        statement="With the penalty, large groups can be removed at once",
        where="abstract",
        label="one − two rounds, penalty − plain",
        measured="top-1 of one round − two rounds: with the penalty − without; two rounds train "
        "longer",
        sources=(Source(_ORTHO, interaction(ORTHO, ROUNDS, PLAIN, ROUNDS_PLAIN)),),
    ),
    Claim(
        id="O3",
        paper="orthoreg",
        statement="Networks pruned after the penalty are easier to train",
        where="abstract",
        label="first epochs, penalty − plain",
        measured="top-1 after the first two epochs of fine-tuning (mean): with the penalty − "
        "without",
        sources=(Source(_ORTHO, difference(ORTHO, PLAIN, quantity=EARLY_ACCURACY)),),
    ),
    Claim(
        id="O4",
        paper="orthoreg",
        statement="OrthoReg beats the same pruning without its penalty (the baseline Fisher)",
        where="abstract (five baselines, iterative pruning)",
        label="OrthoReg − Fisher, two rounds",
        measured="top-1 of orthoreg − the same without the penalty, two rounds",
        sources=(Source(_ORTHO, difference(ROUNDS, ROUNDS_PLAIN)),),
    ),
    Claim(
        id="O5",
        paper="orthoreg",
        statement="OrthoReg draws better Early-Bird tickets than batch-norm scales",
        where="README, Early-Bird results",
        label="OrthoReg's tickets − batch-norm tickets",
        measured="top-1 of tickets by orthoreg − by batch-norm scales",
        sources=(
            Source(_EARLY, difference(Variant("early_bird", "orthoreg"), Variant("early_bird"))),
        ),
    ),
    Claim(
        id="O5-early",
        paper="orthoreg",
        statement="A ticket drawn early ties pruning of the fully trained network",
        where="You et al., arXiv 1909.11957, abstract",
        label="early ticket − pruned trained net (tie)",
        measured="top-1 of early_bird − bn_scale, which trains 8 epochs more; a tie is within "
        f"±{EQUAL_POINTS} points",
        sources=(Source(_EARLY, difference(Variant("early_bird"), Variant("bn_scale"))),),
        kind="equal",
    ),
    Claim(
        id="I1",
        paper="increg",
        statement="Penalties that grow by rank beat a large constant penalty",
        where="abstract",
        label="growing − constant penalty",
        question="IncReg beats a fixed penalty?",
        measured="top-1 of increg − increg with the ceiling as constant penalty, equal MACs",
        sources=(Source(_INCREG, difference(INCREG, Variant("increg", "constant"))),),
    ),
    Claim(
        id="I2",
        paper="increg",
        statement="Importance changes during pruning, and the method follows it",
        where="introduction",
        needs="the rank of each column over time, which runs do not store",
    ),
    Claim(
        id="F1",
        paper="group_fisher",
        statement="Coupled channels must be pruned too: groups beat isolated channels alone",
        where="Table 1, rows -M and -I",
        label="grouped − isolated channels",
        measured="top-1 of group_fisher − group_fisher/isolated, equal MACs",
        sources=(Source(_FISHER, difference(GROUP_FISHER, Variant("group_fisher", "isolated"))),),
    ),
    Claim(
        id="F2",
        paper="group_fisher",
        statement="Scores divided by memory give a better network than scores divided by FLOPs",
        where="Table 1, rows -M and -F",
        label="memory − FLOPs normalization",
        question="Memory normalization beats FLOPs?",
        measured="top-1 of group_fisher − group_fisher/flops, equal MACs",
        sources=(Source(_FISHER, difference(GROUP_FISHER, Variant("group_fisher", "flops"))),),
    ),
    Claim(
        id="F2-none",
        paper="group_fisher",
        statement="Scores divided by memory give a better network than undivided scores",
        where="Table 1, rows -M and -U",
        label="memory normalization − none",
        measured="top-1 of group_fisher − group_fisher/unnormalized, equal MACs",
        sources=(
            Source(_FISHER, difference(GROUP_FISHER, Variant("group_fisher", "unnormalized"))),
        ),
    ),
    Claim(
        id="F2-speed",
        paper="group_fisher",
        statement="Memory removed predicts a GPU's speedup better than FLOPs removed",
        where="Tables 1 and 4, Figure 1",
        needs="latencies on a GPU, of networks large enough to be bound by it",
    ),
    Claim(
        id="F3",
        paper="group_fisher",
        statement="One method prunes residual, grouped, depthwise and pyramid structures",
        where="Tables 1–6",
        needs="training on ImageNet and COCO; the coupling of channels itself is tested",
    ),
    Claim(
        id="G1-counter",
        paper="2301.05219",
        statement="L1 with enough retraining ties GReg-1",
        where="Tables 1 and 3",
        label="L1 − GReg-1, same total epochs (tie)",
        question="L1 with enough retraining ties GReg-1?",
        measured="top-1 of l1 − greg_1, equal total epochs (on digits 16 and 15.9); a tie is "
        f"within ±{EQUAL_POINTS} points",
        sources=(
            Source(CIFAR, difference(L1, GREG_1)),
            Source(_GREG, difference(L1_EQUAL, GREG_1)),
        ),
        kind="equal",
    ),
    Claim(
        id="X1",
        paper="2301.05219",
        statement="The recipe of fine-tuning decides more than the criterion",
        where="abstract",
        label="recipe's − criterion's share of variance",
        measured="share of the variance due to the learning rate (0.05 or 0.005) − share due to "
        f"the criterion ({len(CRITERIA)} criteria)",
        sources=(Source(_BASELINES, VarianceShares(CRITERIA, RECIPES)),),
        unit=SHARE,
        equality=EQUAL_SHARE,
    ),
    Claim(
        id="X2-magnitude",
        paper="ShrinkBench",
        statement="Magnitude pruning is a strong baseline",
        where="Blalock et al., MLSys 2020",
        label="rank of L1 above the middle",
        measured="rank of l1 above the middle of the criteria (0.5: always the best)",
        sources=(
            Source(CIFAR, Rank("l1", CIFAR_CRITERIA)),
            Source(_BASELINES, Rank("l1", CRITERIA, RECIPES)),
        ),
        unit=PLACES,
        equality=EQUAL_SHARE,
    ),
    Claim(
        id="X2-random",
        paper="ShrinkBench",
        statement="Random pruning is a strong baseline",
        where="Blalock et al., MLSys 2020",
        label="rank of random above the middle",
        measured="rank of random above the middle of the criteria (0.5: always the best)",
        sources=(
            Source(CIFAR, Rank("random", CIFAR_CRITERIA)),
            Source(_BASELINES, Rank("random", CRITERIA, RECIPES)),
        ),
        unit=PLACES,
        equality=EQUAL_SHARE,
    ),
)
