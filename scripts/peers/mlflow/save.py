import joblib
import mlflow.sklearn

mlflow.sklearn.save_model(joblib.load("model.joblib"), "saved_model", serialization_format="cloudpickle")
