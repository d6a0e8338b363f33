"""The peers of the serving benchmark: `python benchmarks/_peers.py KIND PORT FILE`.

thread, loop    a bare FastAPI application on uvicorn: the booster's `predict` and `predict(pred_contrib=True)` of
                FILE (LightGBM's text) on a ready vector of numbers; endpoint as `def`, or as `async def`
mlflow          MLflow's own scoring server application of the logged model in FILE (a folder), on uvicorn
"""

# Annotations are objects here, not texts: FastAPI has to find classes that are made in a function.
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import uvicorn


def bare(text: str, *, is_async: bool) -> Any:
    """What people write around a booster."""
    import lightgbm
    import numpy as np
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Row(BaseModel):
        values: list[float | None]

    class Answer(BaseModel):
        probability: float
        contributions: list[float]

    app = FastAPI()
    booster = lightgbm.Booster(model_str=text)

    def answer(row: Row) -> Answer:
        matrix = np.array([row.values], dtype=np.float64)
        probability = booster.predict(matrix, num_threads=1)
        contributions = booster.predict(matrix, pred_contrib=True, num_threads=1)
        return Answer(probability=float(probability[0]), contributions=contributions[0].tolist())

    if is_async:

        @app.post("/predict")
        async def predict_in_loop(row: Row) -> Answer:
            return answer(row)
    else:

        @app.post("/predict")
        def predict_in_thread(row: Row) -> Answer:
            return answer(row)

    return app


def main() -> None:
    """Serve until a signal."""
    kind, port, file = sys.argv[1:]
    if kind == "mlflow":
        import mlflow.pyfunc
        from mlflow.pyfunc.scoring_server import init

        app = init(mlflow.pyfunc.load_model(file))
    else:
        app = bare(Path(file).read_text("utf-8"), is_async=kind == "loop")
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error", access_log=False)


if __name__ == "__main__":
    main()
