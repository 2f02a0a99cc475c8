/* Runs a model on zeros, in C: ./run model.pqi */
#include <stdio.h>
#include <stdlib.h>

#include "pyqinfer/pyqinfer.h"

int main(int argc, char** argv) {
  pqi_error error = PQI_ERROR_INIT;
  pqi_model* model = NULL;
  pqi_session* session = NULL;
  pqi_port port = PQI_PORT_INIT;
  pqi_tensor x = {PQI_F32, 0, {0}, NULL, sizeof(float)}, y = {PQI_F32, 0, {0}, NULL, 0};
  int code = 1;

  if (pqi_model_load(argc > 1 ? argv[1] : "model.pqi", &model, &error) != PQI_OK) goto done;
  if (pqi_session_create(model, NULL, &session, &error) != PQI_OK) goto done;
  if (pqi_model_input(model, 0, &port, &error) != PQI_OK) goto done;
  x.rank = port.rank;
  for (size_t i = 0; i < port.rank; ++i) {
    x.shape[i] = port.shape[i] < 0 ? 1 : port.shape[i]; /* an open dimension becomes 1 */
    x.bytes *= (size_t)x.shape[i];
  }
  x.data = calloc(1, x.bytes);
  if (pqi_session_infer(session, &x, 1, &y, 1, &error) != PQI_OK) goto done;
  y.data = malloc(y.bytes);
  if (!x.data || !y.data) goto done;
  if (pqi_session_run(session, &x, 1, &y, 1, &error) != PQI_OK) goto done;
  for (size_t i = 0; i < y.bytes / sizeof(float) && i < 5; ++i) printf("%g\n", ((const float*)y.data)[i]);
  code = 0;

done:
  if (code) fprintf(stderr, "%s: %s\n", pqi_status_name(error.status), error.message);
  free(x.data);
  free(y.data);
  pqi_session_free(session);
  pqi_model_free(model);
  return code;
}
