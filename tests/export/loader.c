/* Load an exported Mixer as TensorFlow Serving does, with TensorFlow's C API and nothing else, and run requests.

   loader FOLDER < REQUESTS, each request a line of words:
     INPUT TYPE FILE RANK SIDES... OUTPUT FILE [OUTPUT FILE ...]
   INPUT and OUTPUT are tensors such as serving_default_images:0; TYPE is uint8, float or string. A file of numbers has
   their bytes; a file of strings has for each its length (uint64) and its bytes. The file of an output has its rank and
   sides (int64), then the same. Each request is answered by the line "ok", or "error CODE MESSAGE" in one line.     */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

#define MAX_OUTPUTS 8
#define MAX_RANK 8

static void fail(const char* what, const char* detail) {
  fprintf(stderr, "loader: %s: %s\n", what, detail);
  exit(1);
}

static char* next_word(void) {
  char* word = strtok(NULL, " \n");
  if (word == NULL) fail("request", "too few words");
  return word;
}

static TF_Output tensor_of(TF_Graph* graph, char* name) {
  char* colon = strrchr(name, ':');
  if (colon == NULL) fail("no output number", name);
  *colon = '\0';
  TF_Output output = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
  if (output.oper == NULL) fail("no such operation", name);
  return output;
}

static void read_all(FILE* file, void* target, size_t size) {
  if (fread(target, 1, size, file) != size) fail("input", "file is too short");
}

static TF_Tensor* read_tensor(const char* path, TF_DataType type, const int64_t* sides, int rank) {
  size_t count = 1;
  for (int i = 0; i < rank; ++i) count *= sides[i];
  size_t size = type == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize(type);
  TF_Tensor* tensor = TF_AllocateTensor(type, sides, rank, count * size);
  FILE* file = fopen(path, "rb");
  if (file == NULL) fail("cannot open", path);
  if (type != TF_STRING) {
    read_all(file, TF_TensorData(tensor), TF_TensorByteSize(tensor));
  } else {
    TF_TString* strings = TF_TensorData(tensor);
    for (size_t i = 0; i < count; ++i) {
      uint64_t length;
      read_all(file, &length, sizeof length);
      char* bytes = malloc(length + 1);
      read_all(file, bytes, length);
      TF_TString_Init(&strings[i]);
      TF_TString_Copy(&strings[i], bytes, length);
      free(bytes);
    }
  }
  fclose(file);
  return tensor;
}

static void write_tensor(const char* path, TF_Tensor* tensor) {
  FILE* file = fopen(path, "wb");
  if (file == NULL) fail("cannot open", path);
  int64_t rank = TF_NumDims(tensor), count = 1;
  fwrite(&rank, sizeof rank, 1, file);
  for (int i = 0; i < rank; ++i) {
    int64_t side = TF_Dim(tensor, i);
    fwrite(&side, sizeof side, 1, file);
    count *= side;
  }
  if (TF_TensorType(tensor) != TF_STRING) {
    fwrite(TF_TensorData(tensor), 1, TF_TensorByteSize(tensor), file);
  } else {
    TF_TString* strings = TF_TensorData(tensor);
    for (int64_t i = 0; i < count; ++i) {
      uint64_t length = TF_TString_GetSize(&strings[i]);
      fwrite(&length, sizeof length, 1, file);
      fwrite(TF_TString_GetDataPointer(&strings[i]), 1, length, file);
    }
  }
  if (fclose(file) != 0) fail("cannot write", path);
}

static void answer(TF_Session* session, TF_Graph* graph, char* line) {
  TF_Output input = tensor_of(graph, strtok(line, " \n"));
  const char* kind = next_word();
  TF_DataType type = !strcmp(kind, "uint8") ? TF_UINT8 : !strcmp(kind, "float") ? TF_FLOAT : TF_STRING;
  const char* path = next_word();
  int rank = atoi(next_word());
  int64_t sides[MAX_RANK];
  for (int i = 0; i < rank && i < MAX_RANK; ++i) sides[i] = atoll(next_word());
  TF_Tensor* fed = read_tensor(path, type, sides, rank);

  TF_Output outputs[MAX_OUTPUTS];
  char* paths[MAX_OUTPUTS];
  int count = 0;
  for (char* word = strtok(NULL, " \n"); word != NULL && count < MAX_OUTPUTS; word = strtok(NULL, " \n")) {
    outputs[count] = tensor_of(graph, word);
    paths[count++] = next_word();
  }

  TF_Status* status = TF_NewStatus();
  TF_Tensor* fetched[MAX_OUTPUTS] = {NULL};
  TF_SessionRun(session, NULL, &input, &fed, 1, outputs, fetched, count, NULL, 0, NULL, status);
  if (TF_GetCode(status) != TF_OK) {
    printf("error %d ", TF_GetCode(status));
    for (const char* c = TF_Message(status); *c; ++c) putchar(*c == '\n' ? ' ' : *c);
    printf("\n");
  } else {
    for (int i = 0; i < count; ++i) {
      write_tensor(paths[i], fetched[i]);
      TF_DeleteTensor(fetched[i]);
    }
    printf("ok\n");
  }
  fflush(stdout);
  TF_DeleteTensor(fed);
  TF_DeleteStatus(status);
}

int main(int argc, char** argv) {
  if (argc != 2) fail("usage", "loader FOLDER < REQUESTS");
  const char* tags[] = {"serve"};
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  if (TF_GetCode(status) != TF_OK) fail("cannot load", TF_Message(status));

  char* line = NULL;
  size_t size = 0;
  while (getline(&line, &size, stdin) > 0) answer(session, graph, line);
  free(line);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
