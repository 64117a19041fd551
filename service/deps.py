"""What endpoints are given: the database and the settings of the application that they run in."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.db import Database
from service.settings import Settings


def _database(request: Request) -> Database:
    db: Database = request.app.state.db
    return db


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


Db = Annotated[Database, Depends(_database)]
Config = Annotated[Settings, Depends(_settings)]
