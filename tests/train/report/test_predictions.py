import numpy as np

from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.report import Answer, ExampleStrip, with_predictions
from tests.lm_modules.reliance.tables import answering, make_outcomes

NAMES = ("boot", "coat", "shirt")
IDS = (12, 10, 15)


def outcomes(**predictions) -> Outcomes:
    """Six images with ids 10 to 15."""
    return answering(make_outcomes(6, seed=0), **{name: np.array(found) for name, found in predictions.items()})


def strip(method, condition, labels=(1, 0, 2)):
    picture = np.zeros((4, 4, 3), np.uint8)
    return ExampleStrip("Hidden", method, (picture,) * 3, condition, IDS, labels)


def test_answers_are_those_of_the_images_and_the_condition_and_networks_that_agree_stand_together():
    runs = {
        1: outcomes(silhouette=[0, 2, 1, 0, 0, 2], circle=[2] * 6),
        4: outcomes(silhouette=[0, 0, 0, 0, 0, 1], circle=[2] * 6),
    }
    (shown,) = with_predictions([strip("black", "silhouette")], {"black": runs}, NAMES)
    assert shown.classes == ("coat", "boot", "shirt")
    assert shown.answers == (
        (Answer("coat", True, (1,)), Answer("boot", False, (4,))),
        (Answer("boot", True, (1, 4)),),
        (Answer("shirt", True, (1,)), Answer("coat", False, (4,))),
    )
    (circle,) = with_predictions([strip("black", "circle")], {"black": runs}, NAMES)
    assert {answer.class_name for found in circle.answers for answer in found} == {"shirt"}


def test_images_that_a_network_was_not_asked_about_have_no_answer_of_it():
    runs = {1: outcomes(circle=[0, 0, -1, 0, 0, 0])}
    (shown,) = with_predictions([strip("mean", "circle")._replace(ids=(12, 10, 99))], {"mean": runs}, NAMES)
    assert shown.answers == ((), (Answer("boot", True, (1,)),), ())


def test_methods_without_networks_have_pictures_alone():
    (shown,) = with_predictions([strip("mean", "circle")], {"black": {1: outcomes()}}, NAMES)
    assert shown.answers == ((), (), ()) and len(shown.images) == 3
