"""What a student learns from beside its teacher's encoder, and whether the teacher's training leaves it."""

from experiment import source
from experiment.encoders import Encoder, Fetched, OnlineTeacher, Pretrained, Student
from experiment.errors import ConfigError


def require_heads(where: str, student: Student, teacher: Encoder) -> None:
    """Refuse a student of a teacher whose training leaves none of the heads that it learns from."""
    left = _left_by(teacher)
    # What a public checkpoint holds beside the backbone is for the stage that reads it to find out.
    untold = isinstance(teacher, Fetched) and student.heads == "projector"
    if untold or student.heads in ("", *left):
        return
    how = "is a student" if isinstance(teacher, Student) else "was fetched"
    if isinstance(teacher, Pretrained):
        how = f"was trained by {teacher.method}, which leaves no {'target network' if left else 'projector'}"
    package = "stages.pretraining"
    leave = [
        name for name in source.plugins(package) if student.heads in _heads_of(source.plugin_module(package, name))
    ]
    instead = ", or the option teacher_head: false" if student.heads == "projector" else ""
    raise ConfigError(
        f"{where}.teachers: teacher {teacher.name} {how}; {student.label} needs a teacher pretrained by "
        f"{' or '.join(leave)}{instead}"
    )


def _left_by(encoder: Encoder) -> tuple[str, ...]:
    """What an encoder's training leaves beside it, as far as the method says: none of a student or a download."""
    if isinstance(encoder, Pretrained):
        return _heads_of(source.plugin_module("stages.pretraining", encoder.method))
    if isinstance(encoder, OnlineTeacher):
        return _heads_of(source.plugin_module("stages.distillation", encoder.method))
    return ()


def _heads_of(module: str) -> tuple[str, ...]:
    """What training by ``module`` leaves beside the encoder, or an online method beside its teacher."""
    left = source.literal(module, "HEADS", "")
    return {"projector": ("projector",), "networks": ("projector", "networks")}.get(left, ())
