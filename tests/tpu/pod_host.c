/* A host of a TPU pod, as TensorFlow's client finds it: a TensorFlow server, and no Python.

   pod_host SERVER_DEF    (a file of a serialised tensorflow.ServerDef)

Prints its address when it serves, and serves until it is killed, or its parent ends. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include "tensorflow/c/c_api.h"

static void check(TF_Status* status) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s\n", TF_Message(status));
  exit(1);
}

int main(int argc, char** argv) {
  static char definition[1 << 16];
  FILE* file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (file == NULL) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  size_t size = fread(definition, 1, sizeof definition, file);
  fclose(file);
  TF_Status* status = TF_NewStatus();
  TF_Server* server = TF_NewServer(definition, size, status);
  check(status);
  TF_ServerStart(server, status);
  check(status);
  printf("%s\n", TF_ServerTarget(server));
  fflush(stdout);
  TF_ServerJoin(server, status);
  check(status);
  return 0;
}
