/* C interface of pyqinfer: load a .pqi file and run it.
 *
 *   pqi_model* model;
 *   pqi_error error = PQI_ERROR_INIT;
 *   if (pqi_model_load("model.pqi", &model, &error) != PQI_OK) fprintf(stderr, "%s\n", error.message);
 *
 * Every function may be called from any thread, and one session from many threads at once. Handles are opaque; free sessions before
 * or after their model, in any order. There is no global state and nothing is printed. No file, however made, can crash the process.
 * Functions that can fail return a status and, if `error` is not NULL, fill it in. On failure outputs are untouched, but for those of a run
 * that was cancelled.
 */
#ifndef PYQINFER_PYQINFER_H_
#define PYQINFER_PYQINFER_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PQI_API __attribute__((visibility("default")))
#else
#define PQI_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pqi_status {
  PQI_OK = 0,
  PQI_ERR_ARGUMENT = 1,    /* NULL, a wrong size, name, shape, dtype or option */
  PQI_ERR_FORMAT = 2,      /* a file that breaks the format */
  PQI_ERR_INTEGRITY = 3,   /* a file whose checksum does not match */
  PQI_ERR_UNSUPPORTED = 4, /* an op, version, feature or instruction set that this build or CPU lacks */
  PQI_ERR_NOMEM = 5,
  PQI_ERR_IO = 6,
  PQI_ERR_INTERNAL = 7,
  PQI_ERR_CANCELLED = 8 /* a run that its caller ended (pqi_run_options) */
} pqi_status;

/* Struct fields that callers fill in are plain integers: in C++ an enum with a value of no enumerator is undefined behaviour. */
enum { PQI_F32 = 0, PQI_U8 = 1, PQI_I32 = 2 }; /* PQI_I32: indices, of inputs only */
typedef int32_t pqi_dtype;

enum { PQI_MAX_RANK = 8 };

/* Structs that carry struct_size can grow in later versions; initialise them with their _INIT macro. */
typedef struct pqi_error {
  size_t struct_size;
  pqi_status status;
  char message[1008]; /* UTF-8, always terminated */
} pqi_error;
#define PQI_ERROR_INIT {sizeof(pqi_error), PQI_OK, {0}}

typedef struct pqi_session_options {
  size_t struct_size;
  int threads;           /* 1 .. 1024; results do not depend on it. They wait awake between layers, and sleep 0.2 ms after the last */
  const char* isa;       /* "auto" (also NULL), "reference", "avx2", "avx512vnni", ...; results do not depend on it */
  const char* algorithm; /* of convolutions and linear layers: "auto" (also NULL: the fastest that is proved exact), "direct", or one by
                            name ("winograd", "deferred", ...) for all layers whose shape it fits; an error where it is not exact, and
                            one that lists all names where the name is unknown. Results do not depend on it */
  const char* fip;       /* whether "auto" may choose Winograd's inner product: "auto" (also NULL: by the CPU's family), "on", "off" */
} pqi_session_options;
#define PQI_SESSION_OPTIONS_INIT {sizeof(pqi_session_options), 1, NULL, NULL, NULL}

/* Limits of one run. Results do not depend on them. */
typedef struct pqi_run_options {
  size_t struct_size;
  size_t max_memory;               /* the most that pqi_session_run_bytes may be: more is PQI_ERR_NOMEM, before anything is allocated for
                                      the shapes. 0: no bound */
  int (*cancelled)(void* context); /* asked before each layer, on the thread that runs; nonzero ends the run with PQI_ERR_CANCELLED, and
                                      the outputs then hold anything. NULL: never */
  void* context;                   /* for `cancelled` */
} pqi_run_options;
#define PQI_RUN_OPTIONS_INIT {sizeof(pqi_run_options), 0, NULL, NULL}

/* An input or output as the model declares it. A dimension that the file leaves open is -1. Strings live as long as the model. */
typedef struct pqi_port {
  size_t struct_size;
  const char* name;
  pqi_dtype dtype;
  size_t rank;
  int64_t shape[8];
} pqi_port;
#define PQI_PORT_INIT {sizeof(pqi_port), NULL, PQI_F32, 0, {0}}

/* What a session made of one layer. Strings live as long as the session. */
typedef struct pqi_layer {
  size_t struct_size;
  const char* name;
  const char* op;
  const char* executed_as; /* e.g. "u8s8-avx512vnni" */
  int weight_bits;         /* 0: float or no weights */
  int act_bits;            /* 0: float */
  size_t weight_bytes;     /* packed, in memory */
  const char* reason;      /* why it is executed so */
} pqi_layer;
#define PQI_LAYER_INIT {sizeof(pqi_layer), NULL, NULL, NULL, 0, 0, 0, NULL}

/* A dense row-major array of the caller's: `data` holds `bytes` bytes, of any alignment. */
typedef struct pqi_tensor {
  pqi_dtype dtype;
  size_t rank;
  int64_t shape[8];
  void* data;
  size_t bytes;
} pqi_tensor;

typedef struct pqi_model pqi_model;
typedef struct pqi_session pqi_session;

/* "0.1.0" */
PQI_API const char* pqi_version(void);
/* "PQI_ERR_FORMAT"; "unknown" for a number that is no status. */
PQI_API const char* pqi_status_name(int status);

PQI_API pqi_status pqi_model_load(const char* path, pqi_model** model, pqi_error* error);
/* Copies the bytes. */
PQI_API pqi_status pqi_model_from_memory(const void* data, size_t bytes, pqi_model** model, pqi_error* error);
PQI_API void pqi_model_free(pqi_model* model); /* NULL is allowed */
PQI_API size_t pqi_model_input_count(const pqi_model* model);
PQI_API size_t pqi_model_output_count(const pqi_model* model);
PQI_API pqi_status pqi_model_input(const pqi_model* model, size_t index, pqi_port* port, pqi_error* error);
PQI_API pqi_status pqi_model_output(const pqi_model* model, size_t index, pqi_port* port, pqi_error* error);

/* Packs the weights for this machine. options NULL: the defaults of PQI_SESSION_OPTIONS_INIT. */
PQI_API pqi_status pqi_session_create(const pqi_model* model, const pqi_session_options* options, pqi_session** session, pqi_error* error);
PQI_API void pqi_session_free(pqi_session* session); /* NULL is allowed */
/* Name of the instruction set in use. */
PQI_API const char* pqi_session_isa(const pqi_session* session);
/* Empty, or a sentence to log: a kernel for the instruction set asked for gives wrong results on this machine, so a weaker set is used.
 * Lives as long as the session. */
PQI_API const char* pqi_session_warning(const pqi_session* session);
PQI_API size_t pqi_session_layer_count(const pqi_session* session);
PQI_API pqi_status pqi_session_layer(const pqi_session* session, size_t index, pqi_layer* layer, pqi_error* error);

/* Fills in dtype, rank, shape and bytes of every output for inputs of these shapes; data pointers are neither read nor written. */
PQI_API pqi_status pqi_session_infer(pqi_session* session, const pqi_tensor* inputs, size_t input_count, pqi_tensor* outputs,
                                     size_t output_count, pqi_error* error);
/* Gives the bytes that a run with inputs of these shapes takes: values between layers, scratch memory of threads, inputs and outputs. */
PQI_API pqi_status pqi_session_run_bytes(pqi_session* session, const pqi_tensor* inputs, size_t input_count, size_t* bytes,
                                         pqi_error* error);
/* Runs the model. Inputs and outputs stand in the model's order. dtype, shape and bytes of inputs are checked; each output needs `data`
 * with room for at least the bytes that pqi_session_infer gives (its dtype, rank, shape and bytes are filled in). Outputs must not overlap
 * inputs or each other. Other threads may change the inputs meanwhile: results are then anything, but memory stays safe. Memory of a run is
 * kept for the next: a run of shapes among the 16 used last takes none from the system (as long as no more threads run the session at once
 * than before, and the model has at most 8 inputs and 8 outputs). */
PQI_API pqi_status pqi_session_run(pqi_session* session, const pqi_tensor* inputs, size_t input_count, pqi_tensor* outputs,
                                   size_t output_count, pqi_error* error);
/* Runs the model under limits. options NULL: none. */
PQI_API pqi_status pqi_session_run_with(pqi_session* session, const pqi_run_options* options, const pqi_tensor* inputs, size_t input_count,
                                        pqi_tensor* outputs, size_t output_count, pqi_error* error);

#ifdef __cplusplus
}
#endif

#endif /* PYQINFER_PYQINFER_H_ */
