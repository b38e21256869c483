import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("model.joblib")


class Rows(BaseModel):
    features: list[list[float]]


class Predictions(BaseModel):
    predictions: list[float]


@app.post("/predict")
def predict(rows: Rows) -> Predictions:
    return Predictions(predictions=model.predict(rows.features).tolist())
