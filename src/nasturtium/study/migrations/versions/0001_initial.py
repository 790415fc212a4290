"""First schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "study",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("space", sa.JSON, nullable=False),
        sa.Column("space_fingerprint", sa.Text, nullable=False),
        sa.Column("task", sa.JSON, nullable=False),
        sa.Column("task_fingerprint", sa.Text, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("hardware", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.UniqueConstraint("name", name="uq_study_name"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("role", sa.String(100), nullable=False),
        sa.Column("budget", sa.Integer, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_run_study_id_study"),
        sa.UniqueConstraint("study_id", "role", name="uq_run_study_id_role"),
    )
    _create_logs()
    op.create_table(
        "event",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_event_study_id_study"),
    )
    op.create_table(
        "lease",
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(40), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process_started", sa.Float, nullable=False),
        sa.Column("acquired", sa.Float, nullable=False),
        sa.Column("heartbeat", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("study_id", name="pk_lease"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_lease_study_id_study"),
    )


def _create_logs() -> None:
    op.create_table(
        "proposal",
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("architecture", sa.JSON, nullable=False),
        sa.Column("architecture_key", sa.Text, nullable=False),
        sa.Column("fidelity", sa.JSON, nullable=False),
        sa.Column("parents", sa.JSON, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("told", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_proposal"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_proposal_run_id_run"),
    )
    op.create_table(
        "trial",
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("error_kind", sa.String(20)),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("finished", sa.Float, nullable=False),
        sa.Column("test_metrics", sa.JSON),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_trial"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_trial_run_id_run"),
    )
    op.create_table(
        "curve",
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("step", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", "step", name="pk_curve"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_curve_run_id_run"),
    )


def downgrade() -> None:
    """Drop every table."""
    for table in ("lease", "event", "curve", "trial", "proposal", "run", "study"):
        op.drop_table(table)
