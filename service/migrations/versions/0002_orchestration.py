"""Projects, users and tokens; priorities, tags and dependencies of jobs; series with summaries; operations.

Metrics move from one wide table to `series` (one row for each job and key, with last and best) and narrow `points`.
"""

from __future__ import annotations

import json
import time

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("token_id", sa.String(length=40), nullable=True),
        sa.Column("action", sa.String(length=50), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audits")),
    )
    with op.batch_alter_table("audits", schema=None) as batch_op:
        batch_op.create_index("ix_audits_project_id_id", ["project_id", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_audits_time"), ["time"], unique=False)

    op.create_table(
        "leaders",
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.String(length=100), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("task", name=op.f("pk_leaders")),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=False),
        sa.Column("cpus", sa.Float(), nullable=False),
        sa.Column("gpus", sa.Float(), nullable=False),
        sa.Column("memory", sa.Float(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("max_jobs", sa.Integer(), nullable=True),
        sa.Column("max_gpus", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.execute(
        sa.text("INSERT INTO projects (id, description, created_at) VALUES ('default', '', :now)").bindparams(
            now=time.time()
        )
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("disabled_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "memberships",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_memberships_project_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_memberships_user_id")),
        sa.PrimaryKeyConstraint("project_id", "user_id", name=op.f("pk_memberships")),
    )
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_memberships_user_id"), ["user_id"], unique=False)

    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("type", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=10), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_tokens_project_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_tokens_sha256")),
    )
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tokens_user_id"), ["user_id"], unique=False)

    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("states", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_webhooks_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_webhooks_project_id"), ["project_id"], unique=False)

    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("webhook_id", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name=op.f("fk_deliveries_webhook_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("webhook_id", "event_id", name=op.f("uq_deliveries_webhook_id_event_id")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index("ix_deliveries_state_next_at", ["state", "next_at"], unique=False)

    op.create_table(
        "dependencies",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("needs_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_dependencies_job_id")),
        sa.ForeignKeyConstraint(["needs_id"], ["jobs.id"], name=op.f("fk_dependencies_needs_id")),
        sa.PrimaryKeyConstraint("job_id", "needs_id", name=op.f("pk_dependencies")),
    )
    with op.batch_alter_table("dependencies", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dependencies_needs_id"), ["needs_id"], unique=False)

    op.create_table(
        "job_tags",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("tag", sa.String(length=50), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_tags_job_id")),
        sa.PrimaryKeyConstraint("job_id", "tag", name=op.f("pk_job_tags")),
    )
    with op.batch_alter_table("job_tags", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_tags_tag"), ["tag"], unique=False)

    op.create_table(
        "series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_step", sa.Integer(), nullable=False),
        sa.Column("last_value", sa.Float(), nullable=False),
        sa.Column("best_step", sa.Integer(), nullable=False),
        sa.Column("best_value", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_series_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("job_id", "key", name=op.f("uq_series_job_id_key")),
    )
    with op.batch_alter_table("series", schema=None) as batch_op:
        batch_op.create_index("ix_series_key_best_value_job_id", ["key", "best_value", "job_id"], unique=False)
        batch_op.create_index("ix_series_key_last_value_job_id", ["key", "last_value", "job_id"], unique=False)

    op.create_table(
        "points",
        sa.Column(
            "series_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_points_series_id")),
        sa.PrimaryKeyConstraint("series_id", "step", name=op.f("pk_points"), postgresql_include=["value", "time"]),
        sqlite_with_rowid=False,
    )
    _metrics_to_series()
    op.drop_table("metrics")
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_artifacts_key"), ["key"], unique=False)

    with op.batch_alter_table("log_lines", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_log_lines_job_id"))
        batch_op.create_index("ix_log_lines_job_id_id", ["job_id", "id"], unique=False)

    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("process", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("memory", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("node", sa.String(length=100), nullable=True))
        batch_op.add_column(sa.Column("cause_type", sa.String(length=20), nullable=True))
        batch_op.alter_column("gpus", existing_type=sa.INTEGER(), type_=sa.Float(), existing_nullable=False)

    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.add_column(sa.Column("project_id", sa.String(length=40), nullable=True))
        batch_op.create_index("ix_events_project_id_id", ["project_id", "id"], unique=False)

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("project_id", sa.String(length=40), nullable=False, server_default="default"))
        batch_op.add_column(sa.Column("wait_reason", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("parent_id", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("origin", sa.String(length=10), nullable=True))
        batch_op.add_column(sa.Column("group_name", sa.String(length=100), nullable=True))
        batch_op.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("retries", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("methods", sa.String(length=400), nullable=False, server_default=","))
        batch_op.add_column(sa.Column("detector", sa.String(length=100), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("dataset", sa.String(length=100), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("seed", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("created_by", sa.String(length=100), nullable=True))
        batch_op.drop_index(batch_op.f("ix_jobs_created_at"))
        batch_op.drop_constraint(batch_op.f("uq_jobs_idempotency_key"), type_="unique")
        batch_op.drop_index("ix_jobs_state")
        batch_op.create_index("ix_jobs_created_at_id", ["created_at", "id"], unique=False)
        batch_op.create_index("ix_jobs_state_created_at_id", ["state", "created_at", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_group_name"), ["group_name"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_parent_id"), ["parent_id"], unique=False)
        batch_op.create_index("ix_jobs_project_id_created_at_id", ["project_id", "created_at", "id"], unique=False)
        batch_op.create_unique_constraint(
            batch_op.f("uq_jobs_project_id_idempotency_key"), ["project_id", "idempotency_key"]
        )
        batch_op.create_foreign_key(batch_op.f("fk_jobs_parent_id"), "jobs", ["parent_id"], ["id"])
        batch_op.create_foreign_key(batch_op.f("fk_jobs_project_id"), "projects", ["project_id"], ["id"])
    _describe_jobs()
    op.execute("UPDATE events SET project_id = 'default' WHERE job_id IS NOT NULL")
    op.execute(
        "INSERT INTO dependencies (job_id, needs_id) "
        "SELECT id, teacher_job_id FROM jobs WHERE teacher_job_id IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("UPDATE jobs SET state = 'cancelled' WHERE state IN ('pausing', 'paused')")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_jobs_project_id"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("fk_jobs_parent_id"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("uq_jobs_project_id_idempotency_key"), type_="unique")
        batch_op.drop_index("ix_jobs_project_id_created_at_id")
        batch_op.drop_index(batch_op.f("ix_jobs_parent_id"))
        batch_op.drop_index(batch_op.f("ix_jobs_group_name"))
        batch_op.drop_index("ix_jobs_created_at_id")
        batch_op.drop_index("ix_jobs_state_created_at_id")
        batch_op.create_index("ix_jobs_state", ["state"], unique=False)
        batch_op.create_unique_constraint(batch_op.f("uq_jobs_idempotency_key"), ["idempotency_key"])
        batch_op.create_index(batch_op.f("ix_jobs_created_at"), ["created_at"], unique=False)
        batch_op.drop_column("created_by")
        batch_op.drop_column("seed")
        batch_op.drop_column("dataset")
        batch_op.drop_column("detector")
        batch_op.drop_column("methods")
        batch_op.drop_column("retries")
        batch_op.drop_column("priority")
        batch_op.drop_column("group_name")
        batch_op.drop_column("origin")
        batch_op.drop_column("parent_id")
        batch_op.drop_column("wait_reason")
        batch_op.drop_column("project_id")

    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index("ix_events_project_id_id")
        batch_op.drop_column("project_id")

    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.alter_column("gpus", existing_type=sa.Float(), type_=sa.INTEGER(), existing_nullable=False)
        batch_op.drop_column("cause_type")
        batch_op.drop_column("node")
        batch_op.drop_column("memory")
        batch_op.drop_column("process")

    with op.batch_alter_table("log_lines", schema=None) as batch_op:
        batch_op.drop_index("ix_log_lines_job_id_id")
        batch_op.create_index(batch_op.f("ix_log_lines_job_id"), ["job_id"], unique=False)

    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_artifacts_key"))

    op.create_table(
        "metrics",
        sa.Column("job_id", sa.VARCHAR(length=40), nullable=False),
        sa.Column("key", sa.VARCHAR(length=200), nullable=False),
        sa.Column("step", sa.INTEGER(), nullable=False),
        sa.Column("value", sa.FLOAT(), nullable=False),
        sa.Column("time", sa.FLOAT(), nullable=False),
        sa.Column("attempt_id", sa.VARCHAR(length=40), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_metrics_attempt_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_metrics_job_id")),
        sa.PrimaryKeyConstraint("job_id", "key", "step", name=op.f("pk_metrics")),
    )
    _series_to_metrics()
    op.drop_table("points")
    with op.batch_alter_table("series", schema=None) as batch_op:
        batch_op.drop_index("ix_series_key_last_value_job_id")
        batch_op.drop_index("ix_series_key_best_value_job_id")

    op.drop_table("series")
    with op.batch_alter_table("job_tags", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_tags_tag"))

    op.drop_table("job_tags")
    with op.batch_alter_table("dependencies", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dependencies_needs_id"))

    op.drop_table("dependencies")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_state_next_at")

    op.drop_table("deliveries")
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_webhooks_project_id"))

    op.drop_table("webhooks")
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tokens_user_id"))

    op.drop_table("tokens")
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_memberships_user_id"))

    op.drop_table("memberships")
    op.drop_table("users")
    op.drop_table("projects")
    op.drop_table("nodes")
    op.drop_table("leaders")
    with op.batch_alter_table("audits", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audits_time"))
        batch_op.drop_index("ix_audits_project_id_id")

    op.drop_table("audits")


def _metrics_to_series() -> None:
    op.execute(
        """
        INSERT INTO series (job_id, key, count, last_step, last_value, best_step, best_value)
        SELECT m.job_id, m.key, m.count, m.last_step, l.value, b.step, b.value
        FROM (SELECT job_id, key, COUNT(*) AS count, MAX(step) AS last_step FROM metrics GROUP BY job_id, key) m
        JOIN metrics l ON l.job_id = m.job_id AND l.key = m.key AND l.step = m.last_step
        JOIN (
            SELECT job_id, key, step, value, ROW_NUMBER() OVER (
                PARTITION BY job_id, key
                ORDER BY CASE WHEN key LIKE 'loss%' THEN value ELSE -value END, step
            ) AS place FROM metrics
        ) b ON b.job_id = m.job_id AND b.key = m.key AND b.place = 1
        """
    )
    op.execute(
        """
        INSERT INTO points (series_id, step, attempt, value, time)
        SELECT s.id, m.step, a.number, m.value, m.time
        FROM metrics m
        JOIN series s ON s.job_id = m.job_id AND s.key = m.key
        JOIN attempts a ON a.id = m.attempt_id
        """
    )


def _series_to_metrics() -> None:
    # 0: taken over from an earlier job; the first attempt went on from there
    op.execute(
        """
        INSERT INTO metrics (job_id, key, step, value, time, attempt_id)
        SELECT s.job_id, s.key, p.step, p.value, p.time, a.id
        FROM points p
        JOIN series s ON s.id = p.series_id
        JOIN attempts a ON a.job_id = s.job_id AND a.number = CASE WHEN p.attempt = 0 THEN 1 ELSE p.attempt END
        """
    )


def _describe_jobs() -> None:
    """Fill the columns that lists filter by from the specs."""
    if context.is_offline_mode():
        return
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT id, spec FROM jobs")).all()
    for job_id, text in rows:
        spec = json.loads(text) if isinstance(text, str) else text
        student = spec.get("student", {})
        parts = [student.get("detector", "gfl"), student.get("backbone", "")]
        if student.get("backbone") == "tiny":
            parts.append(str(student.get("width", "")))
        methods = [method["type"] for method in spec.get("methods", [])]
        connection.execute(
            sa.text("UPDATE jobs SET methods = :m, detector = :d, dataset = :t, seed = :s WHERE id = :id"),
            {
                "m": "," + "".join(f"{method}," for method in methods),
                "d": "-".join(part for part in parts if part)[:100],
                "t": str(spec.get("data", {}).get("type", ""))[:100],
                "s": int(spec.get("seed", 0)),
                "id": job_id,
            },
        )
