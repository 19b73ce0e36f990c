/* Runs one signature of a SavedModel by TensorFlow's C API, without Python.

   c_loader FOLDER OUTPUT INPUT SHAPE [INPUT SHAPE ...]

   OUTPUT and INPUT are OPERATION:INDEX, SHAPE is N,N,... All tensors are float32: the inputs come
   from stdin in their order, the output's values go to stdout, a line each. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

enum { MOST_INPUTS = 8, MOST_DIMS = 8 };

static void fail(const char *what) {
  fprintf(stderr, "c_loader: %s\n", what);
  exit(1);
}

static void check(TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) fail(TF_Message(status));
}

/* The output "name:index" of the graph. */
static TF_Output find(TF_Graph *graph, char *name) {
  char *colon = strrchr(name, ':');
  if (!colon) fail("a tensor is named OPERATION:INDEX");
  *colon = '\0';
  TF_Output found = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
  if (!found.oper) fail(name);
  return found;
}

/* A tensor of the shape "N,N,...", read from stdin. */
static TF_Tensor *read_tensor(char *shape) {
  int64_t dims[MOST_DIMS], count = 1;
  int rank = 0;
  for (char *part = strtok(shape, ","); part; part = strtok(NULL, ",")) {
    if (rank == MOST_DIMS) fail("too many dimensions");
    dims[rank] = atoll(part);
    count *= dims[rank++];
  }
  TF_Tensor *tensor = TF_AllocateTensor(TF_FLOAT, dims, rank, count * sizeof(float));
  if (fread(TF_TensorData(tensor), sizeof(float), count, stdin) != (size_t)count)
    fail("stdin ended too early");
  return tensor;
}

int main(int argc, char **argv) {
  int inputs = (argc - 3) / 2;
  if (argc < 5 || argc % 2 == 0 || inputs > MOST_INPUTS) fail("wrong arguments");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);

  TF_Output fed[MOST_INPUTS], output = find(graph, argv[2]);
  TF_Tensor *values[MOST_INPUTS], *result = NULL;
  for (int i = 0; i < inputs; i++) {
    fed[i] = find(graph, argv[3 + 2 * i]);
    values[i] = read_tensor(argv[4 + 2 * i]);
  }
  TF_SessionRun(session, NULL, fed, values, inputs, &output, &result, 1, NULL, 0, NULL, status);
  check(status);
  if (TF_TensorType(result) != TF_FLOAT) fail("the output is not float32");
  const float *data = TF_TensorData(result);
  for (int64_t i = 0; i < TF_TensorElementCount(result); i++) printf("%.9g\n", data[i]);

  for (int i = 0; i < inputs; i++) TF_DeleteTensor(values[i]);
  TF_DeleteTensor(result);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
