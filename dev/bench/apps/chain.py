"""FastAPI as its tutorial has it: OAuth2PasswordBearer, a decoded token, a pydantic body, all by Depends."""

import os
import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from jose import JWTError, jwt
from pydantic import BaseModel

from dev.bench.work import chosen

_work = chosen().work
_USERNAME = os.environ["BUDGET_USERNAME"]
_PASSWORD = os.environ["BUDGET_PWD"]
_KEY = os.environ["BUDGET_SIGNING_KEY"]

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="token")


class Body(BaseModel):
    """What is posted."""

    payload: dict[str, Any]


async def current_user(token: Annotated[str, Depends(bearer)]) -> str:
    """Whose token this is."""
    try:
        return str(jwt.decode(token, _KEY, algorithms=["HS256"])["sub"])
    except (JWTError, KeyError):
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"}) from None


@app.post("/token")
async def token(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
    """A signed token that expires."""
    if (form.username, form.password) != (_USERNAME, _PASSWORD):
        raise HTTPException(401)
    claims = {"sub": form.username, "exp": int(time.time()) + 3600}
    return {"access_token": jwt.encode(claims, _KEY, algorithm="HS256"), "token_type": "bearer"}


@app.post("/predict_dict")
async def predict_dict(body: Body, _user: Annotated[str, Depends(current_user)]) -> dict[str, Any]:
    """The answer to one payload."""
    return _work(body.payload)
