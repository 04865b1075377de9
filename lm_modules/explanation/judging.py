"""All measures of the explanations of one image, and what is kept of it."""

from collections.abc import Mapping
from dataclasses import replace

from maskrobust.augment.registry import import_modules
from maskrobust.lm_modules.explanation.explained import ExplainedImage, Judged
from maskrobust.lm_modules.explanation.judges.ablation import ablated
from maskrobust.lm_modules.explanation.judges.registry import DECOYS, JUDGES, ImageToJudge


def judge_image(image: ImageToJudge) -> ExplainedImage:
    """Judge the explanations of one image, of the first of its classes, by every measure of `JUDGES`.

    Returns:
        What was explained of that class alone, but for the partition with a decoy and for answers about windows, with
        the judgements and the curves of deletion and insertion. Where a measure does not apply, there is no entry.
    """
    import_modules("maskrobust.lm_modules.explanation.judges")
    found = image.explained
    for about in found.explanations:
        for name, each in JUDGES.items():
            values = each.function(image, about) if each.of_decoys == (about.partition == DECOYS) else None
            members = values if isinstance(values, Mapping) else {(): values}
            found.judged |= {Judged(*about, name, key): value for key, value in members.items() if value is not None}
        if about.partition != DECOYS:
            for which in ("deletion", "insertion"):
                found.curves[about, which] = ablated(image, about)[f"{which}_curve"]
    return _with_first_class_alone(found)


def _with_first_class_alone(image: ExplainedImage) -> ExplainedImage:
    answers = {
        (partition, kind): each if partition in ("", DECOYS) else each._replace(values=each.values[..., :1])
        for (partition, kind), each in image.answers.items()
    }
    explanations = {
        about: each if about.partition == DECOYS else each.first_class() for about, each in image.explanations.items()
    }
    return replace(
        image,
        classes=image.classes[:1],
        whole=image.whole[:, :1],
        answers=answers,
        explanations=explanations,
        decoy_classes=image.classes if any(about.partition == DECOYS for about in explanations) else None,
    )
