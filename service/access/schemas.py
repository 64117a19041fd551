"""What the API takes and shows of projects, users, tokens, sessions and the audit record."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.models import Audit, Project, Role, Scope, Token, User

RoleName = Literal["viewer", "editor", "admin"]
ScopeName = Literal["read", "write", "admin"]
# Lower-case ASCII: nobody can take a name that looks like another one's.
ProjectId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._@+-]{0,99}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Description = Annotated[str, StringConstraints(max_length=2000)]
MaxJobs = Annotated[int, Field(ge=0, le=1_000_000, description="Most jobs that run at once; null: no limit.")]
MaxGpus = Annotated[float, Field(ge=0, le=1_000_000, description="Most GPUs in use at once; null: no limit.")]
_TEN_YEARS = 10 * 366 * 24 * 3600


class Body(BaseModel):
    """What people send: unknown keys, texts in place of numbers, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ProjectIn(Body):
    id: ProjectId = Field(description="Lower-case letters, digits and hyphens; it cannot be changed.")
    description: Description = ""
    max_jobs: MaxJobs | None = None
    max_gpus: MaxGpus | None = None


class ProjectPatch(Body):
    """Only what is given changes."""

    description: Description = ""
    max_jobs: MaxJobs | None = None
    max_gpus: MaxGpus | None = None


class ProjectOut(BaseModel):
    id: str
    description: str
    max_jobs: int | None
    max_gpus: float | None
    created_at: float
    role: Role | None = Field(description="What the caller may do in it, with this token.")


class ProjectPage(BaseModel):
    items: list[ProjectOut]
    next_cursor: str | None


class MemberIn(Body):
    role: RoleName


class MemberOut(BaseModel):
    user: str
    role: Role


class MemberPage(BaseModel):
    items: list[MemberOut]
    next_cursor: str | None


class UserIn(Body):
    name: UserName = Field(description="Lower-case letters, digits and . _ @ + -; it cannot be changed.")
    is_admin: bool = Field(False, description="Administrator of the whole installation.")


class UserPatch(Body):
    """Only what is given changes."""

    is_admin: bool | None = None
    disabled: bool | None = Field(None, description="A disabled user's tokens and sessions let nobody in.")


class UserOut(BaseModel):
    name: str
    is_admin: bool
    created_at: float
    disabled_at: float | None


class UserPage(BaseModel):
    items: list[UserOut]
    next_cursor: str | None


class TokenIn(Body):
    name: Label = Field(description="What it is for.")
    scope: ScopeName = Field(description="The most that it lets its user do: read, write (run jobs) or admin.")
    project: str | None = Field(None, max_length=40, description="Only this project; null: all of the user's.")
    expires_in: Annotated[float, Field(gt=0, le=_TEN_YEARS)] | None = Field(None, description="Seconds from now.")
    expires_at: float | None = Field(None, description="Unix time, in place of expires_in. Neither: it does not end.")
    user: str | None = Field(None, max_length=100, description="For another user (administrators only).")


class TokenOut(BaseModel):
    id: str
    user: str
    type: str = Field(description="api, or session: a browser's.")
    name: str
    scope: Scope
    project: str | None
    created_at: float
    expires_at: float | None
    last_used_at: float | None = Field(description="To the minute.")
    revoked_at: float | None


class TokenPage(BaseModel):
    items: list[TokenOut]
    next_cursor: str | None


class NewTokenOut(TokenOut):
    token: str = Field(description="The secret. It is shown this once; only its hash is kept.")


class MeOut(BaseModel):
    user: str
    is_admin: bool = Field(description="Administrator of the installation, as far as this token lets them be one.")
    roles: dict[str, Role] = Field(description="By project, as far as this token lets them act.")
    token: TokenOut


class SessionIn(Body):
    token: Annotated[str, Field(min_length=1, max_length=500)] = Field(description="An API token of the user.")


class SessionOut(BaseModel):
    user: str
    is_admin: bool
    scope: Scope
    project: str | None
    expires_at: float | None


class AuditOut(BaseModel):
    id: int
    time: float
    actor: str = Field(description="Name of the user; `-` where none is known.")
    token_id: str | None
    action: str
    target: str
    project: str | None
    address: str | None
    request_id: str | None
    data: dict[str, Any]


class AuditPage(BaseModel):
    items: list[AuditOut]
    next_cursor: str | None


def project_out(row: Project, role: Role | None) -> ProjectOut:
    return ProjectOut(
        id=row.id, description=row.description, max_jobs=row.max_jobs, max_gpus=row.max_gpus,
        created_at=row.created_at, role=role,
    )  # fmt: skip


def user_out(row: User) -> UserOut:
    return UserOut(name=row.name, is_admin=row.is_admin, created_at=row.created_at, disabled_at=row.disabled_at)


def token_out(row: Token, user: str) -> TokenOut:
    return TokenOut(
        id=row.id, user=user, type=row.type, name=row.name, scope=Scope(row.scope), project=row.project_id,
        created_at=row.created_at, expires_at=row.expires_at, last_used_at=row.last_used_at, revoked_at=row.revoked_at,
    )  # fmt: skip


def audit_out(row: Audit) -> AuditOut:
    return AuditOut(
        id=row.id, time=row.time, actor=row.actor, token_id=row.token_id, action=row.action, target=row.target,
        project=row.project_id, address=row.address, request_id=row.request_id, data=row.data,
    )  # fmt: skip
