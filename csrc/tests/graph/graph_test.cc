// The graph's rules, one row each: the toy model's text with one thing changed, in a file that is otherwise valid. G and F numbers are
// those of the list of bad inputs that the test plan works through; rules about a particular op are tested with that op.
#include <gtest/gtest.h>

#include "tests/graph/toy_model.h"

namespace pqi::test {
namespace {

struct Row {
  const char* name;
  const char* message;  // a part of the error's text, which shows that the right rule refused
  std::string from, to;
  Code code = Code::kModelFormat;
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

class GraphTest : public ::testing::TestWithParam<Row> {};

TEST_P(GraphTest, IsRefused) {
  const std::string text = Replaced(kToyGraph, GetParam().from, GetParam().to);
  ASSERT_NE(text, "") << "the row does not apply: " << GetParam().from;
  const Status status = Load(ToyFileWithGraph(text)).status();
  EXPECT_EQ(status.code(), GetParam().code) << GetParam().name << ": " << status.message();
  EXPECT_NE(status.message().find(GetParam().message), std::string::npos) << GetParam().name << ": " << status.message();
}

const char* const kQuant = R"({"bits":8,"zero_point":3,"qmin":0,"qmax":255})";
const char* const kWeight = R"("dtype":"code","shape":[3,5],"bits":4,"packing":"nibble")";
const char* const kY = R"({"name":"y","dtype":"f32","shape":["N",3]})";
const char* const kFc = R"({"op":"dense","name":"fc","inputs":[1],"outputs":[2],"constants":{"scale":2,"weight":1},"attrs":{}})";
const char* const kSamples = R"([{"inputs":{"x":3},"outputs":{"logits":4}}])";

std::string Quant(const std::string& bits, const std::string& zero_point, const std::string& qmin, const std::string& qmax) {
  return R"({"bits":)" + bits + R"(,"zero_point":)" + zero_point + R"(,"qmin":)" + qmin + R"(,"qmax":)" + qmax + "}";
}
std::string Weight(const std::string& shape, const std::string& bits, const std::string& packing) {
  return R"("dtype":"code","shape":)" + shape + R"(,"bits":)" + bits + R"(,"packing":")" + packing + "\"";
}
std::string Fc(const std::string& inputs, const std::string& outputs, const std::string& constants = R"("scale":2,"weight":1)",
               const std::string& attrs = "") {
  return R"({"op":"dense","name":"fc","inputs":[)" + inputs + R"(],"outputs":[)" + outputs + R"(],"constants":{)" + constants +
         R"(},"attrs":{)" + attrs + "}}";
}

INSTANTIATE_TEST_SUITE_P(
    Keys, GraphTest,
    ::testing::Values(Row{"F10 duplicate key", "a key appears twice", R"({"symbols":)", R"({"symbols":[],"symbols":)"},
                      Row{"F10 duplicate key in a node", "a key appears twice", R"("op":"dense",)", R"("op":"dense","op":"dense",)"},
                      Row{"F11 unknown key", "graph: unknown key 'version'", R"({"symbols":)", R"({"version":1,"symbols":)"},
                      Row{"F11 unknown key in a quant", "quants[0]: unknown key 'scale'", R"("qmax":255)", R"("qmax":255,"scale":1)"},
                      Row{"F11 unknown key in a constant", "constants[1]: unknown key 'axis'", R"("bits":4,)", R"("bits":4,"axis":0,)"},
                      Row{"F11 unknown key in a value", "values[2]: unknown key 'layout'", kY,
                          R"({"name":"y","dtype":"f32","shape":["N",3],"layout":0})"},
                      Row{"F11 unknown key in a node", "nodes[1]: unknown key 'kind'", R"("op":"dense",)", R"("op":"dense","kind":0,)"},
                      Row{"F11 unknown key in an output", "outputs[0]: unknown key 'dtype'", R"("value":2})", R"("value":2,"dtype":0})"},
                      Row{"F11 unknown key in a sample", "samples[0]: unknown key 'name'", R"([{"inputs":{"x":3})",
                          R"([{"name":0,"inputs":{"x":3})"},
                      Row{"F12 missing list", "graph: missing key 'samples'", std::string(R"(,"samples":)") + kSamples, ""},
                      Row{"F12 missing key in a quant", "quants[0]: missing key 'qmin'", R"("qmin":0,)", ""},
                      Row{"F12 missing op", "nodes[1]: missing key 'op'", R"("op":"dense",)", ""},
                      Row{"F12 missing attrs", "nodes[1]: missing key 'attrs'", R"("weight":1},"attrs":{}})", R"("weight":1}})"},
                      Row{"F12 missing shape", "values[2]: missing key 'shape'", kY, R"({"name":"y","dtype":"f32"})"},
                      Row{"list of the wrong kind", "graph.symbols: expected a list, got a string", R"(["N"],"quants")", R"("N","quants")"},
                      Row{"item of the wrong kind", "values[2]: expected an object, got a number", kY, "2"},
                      Row{"name of the wrong kind", "values[2].name: expected a string", R"("name":"y")", R"("name":7)"},
                      Row{"F24 empty name", "values[2].name: a name has 1 to 256 bytes", R"("name":"y")", R"("name":"")"},
                      Row{"F33 NUL in a name", "control character", R"("name":"y")", R"("name":"y\u0000")"},
                      Row{"negative id", "numbers with a sign", R"("value":2)", R"("value":-1)"},
                      Row{"float id", "only integers", R"("value":2)", R"("value":2.0)"}));

INSTANTIATE_TEST_SUITE_P(
    Symbols, GraphTest,
    ::testing::Values(Row{"duplicate symbol", "'N' appears twice", R"(["N"],"quants")", R"(["N","N"],"quants")"},
                      Row{"symbol named ?", "'?' is no name for a symbol", R"(["N"],"quants")", R"(["N","?"],"quants")"},
                      Row{"symbol in no input", "symbol 'H' is in the shape of no input", R"(["N"],"quants")", R"(["N","H"],"quants")"},
                      Row{"unknown symbol", "values[2]: unknown symbol 'M'", R"(["N",3])", R"(["M",3])"},
                      Row{"? in an input", "input 'x': '?' in the shape of an input", R"({"name":"x","dtype":"f32","shape":["N",5]})",
                          R"({"name":"x","dtype":"f32","shape":["N","?"]})"}));

INSTANTIATE_TEST_SUITE_P(
    Quants, GraphTest,
    ::testing::Values(Row{"bits 1", "quants[0].bits: 1 is outside [2, 8]", kQuant, Quant("1", "0", "0", "1")},
                      Row{"bits 9", "quants[0].bits: 9 is outside [2, 8]", kQuant, Quant("9", "3", "0", "255")},
                      Row{"D8 zero point above qmax", "quants[0].zero_point: 256 is outside [0, 255]", kQuant,
                          Quant("8", "256", "0", "255")},
                      Row{"D8 zero point 2^31-1", "quants[0].zero_point: 2147483647", kQuant, Quant("8", "2147483647", "0", "255")},
                      Row{"D8 zero point 2^32+3", "quants[0].zero_point: 4294967299", kQuant, Quant("8", "4294967299", "0", "255")},
                      Row{"D8 zero point below qmin", "quants[0].zero_point: 3 is outside [4, 255]", kQuant, Quant("8", "3", "4", "255")},
                      Row{"D18 qmin above qmax", "quants[0].qmin: 9 is outside [0, 7]", kQuant, Quant("8", "8", "9", "8")},
                      Row{"D18 qmin equal to qmax", "quants[0].qmin: 8 is outside [0, 7]", kQuant, Quant("8", "8", "8", "8")},
                      Row{"D18 qmax beyond the bits", "quants[0].qmax: 16 is outside [1, 15]", kQuant, Quant("4", "3", "0", "16")},
                      Row{"codes but no quants", "values[1]: the graph has no quants", kQuant, ""},
                      Row{"quants without scales", "has quants but no constant 'activation_scales'", R"("name":"activation_scales")",
                          R"("name":"scales")"},
                      Row{"more quants than scales", "'activation_scales' must be f32[2]", kQuant, std::string(kQuant) + "," + kQuant}));

INSTANTIATE_TEST_SUITE_P(
    Constants, GraphTest,
    ::testing::Values(
        Row{"unknown dtype", "constants[2]: unknown dtype 'f16'", R"("fc.scale","dtype":"f32")", R"("fc.scale","dtype":"f16")"},
        Row{"unknown packing", "constants[1]: unknown packing 'zip'", kWeight, Weight("[3,5]", "4", "zip")},
        Row{"bits do not fit the packing", "packing 'nibble' cannot hold 5 bits", kWeight, Weight("[3,5]", "5", "nibble")},
        Row{"dense in 8 bits", "packing 'dense' cannot hold 8 bits", kWeight, Weight("[3,5]", "8", "dense")},
        Row{"trits in 3 bits", "packing 'trit5' cannot hold 3 bits", kWeight, Weight("[3,5]", "3", "trit5")},
        Row{"a stream in 3 bits", "packing 'trit_rans' cannot hold 3 bits", kWeight, Weight("[3,5]", "3", "trit_rans")},
        Row{"none in 7 bits", "packing 'none' cannot hold 7 bits", kWeight, Weight("[3,5]", "7", "none")},
        Row{"bits 0", "constants[1].bits: 0 is outside [2, 8]", kWeight, Weight("[3,5]", "0", "dense")},
        Row{"bits 2^32+4", "constants[1].bits: 4294967300", kWeight, Weight("[3,5]", "4294967300", "nibble")},
        Row{"code without bits", "constants[1]: 'bits' is missing", R"("bits":4,)", ""},
        Row{"code without packing", "constants[1]: 'packing' is missing", R"(,"packing":"nibble")", ""},
        Row{"bits of a float", "constants[2]: 'bits' belongs to dtype code only", R"("dtype":"f32","shape":[3])",
            R"("dtype":"f32","bits":8,"shape":[3])"},
        Row{"size that the packing does not give", "expected a tensor U8[9], the file has U8[8]", kWeight, Weight("[3,6]", "4", "nibble")},
        Row{"other packing of the same size", "expected a tensor U8[6], the file has U8[8]", kWeight, Weight("[3,5]", "3", "dense")},
        Row{"other type", "expected a tensor I8[3, 5], the file has U8[8]", kWeight, Weight("[3,5]", "8", "none")},
        Row{"F23 other shape", "expected a tensor F32[4], the file has F32[3]", R"("dtype":"f32","shape":[3])",
            R"("dtype":"f32","shape":[4])"},
        Row{"same elements in another shape", "expected a tensor F32[3, 1], the file has F32[3]", R"("dtype":"f32","shape":[3])",
            R"("dtype":"f32","shape":[3,1])"},
        Row{"F17 elements overflow 64 bits", "has too many elements", kWeight, Weight("[2147483647,2147483647,2147483647]", "4", "nibble")},
        Row{"F17 product 15 modulo 2^64", "is outside [1, 2^31 - 1]", kWeight, Weight("[3,6148914691236517210]", "4", "nibble")},
        Row{"F18 more than 2^38 elements", "has too many elements", kWeight, Weight("[2147483647,129]", "4", "nibble")},
        Row{"dimension 0", "dimension 0 is outside", kWeight, Weight("[0,5]", "4", "nibble")},
        Row{"F19 rank 9", "rank 9 is larger than 8", kWeight, Weight("[1,1,1,1,1,1,1,3,5]", "4", "nibble")},
        Row{"no such tensor", "constant 'fc.bias': the file has no such tensor", R"("name":"fc.weight")", R"("name":"fc.bias")"},
        Row{"G23 duplicate constant", "two constants have the name 'fc.scale'", R"("name":"fc.weight")", R"("name":"fc.scale")"},
        Row{"padding as a constant", "names with '~' are the container's", R"("name":"fc.weight")", R"("name":"~p0")"},
        Row{"F24 header hash as a constant", "names with '~' are the container's", R"("name":"fc.weight")", R"("name":"~hdr")"},
        Row{"G6 unused constant", "constant 'sample_x' is used by nothing", kSamples, "[]"},
        Row{"scales used by a node", "belongs to the graph alone", R"("scale":2,)", R"("scale":0,)"}));

INSTANTIATE_TEST_SUITE_P(
    Values, GraphTest,
    ::testing::Values(Row{"unknown dtype", "values[2]: unknown dtype 'i8'", kY, R"({"name":"y","dtype":"i8","shape":["N",3]})"},
                      Row{"float with a quant", "'quant' belongs to dtype u8", kY,
                          R"({"name":"y","dtype":"f32","shape":["N",3],"quant":0})"},
                      Row{"codes without a quant", "'quant' belongs to dtype u8", R"(,"quant":0})", "}"},
                      Row{"quant out of range", "values[1].quant: 1 is outside [0, 0]", R"("quant":0)", R"("quant":1)"},
                      Row{"dimension 2^31", "dimension 2147483648 is larger", R"(["N",3])", R"(["N",2147483648])"},
                      Row{"F19 rank 9", "rank 9 is larger than 8", R"(["N",3])", R"(["N",3,1,1,1,1,1,1,1])"},
                      Row{"dimension 0 of an output", "an output dimension is 0", R"(["N",3])", R"(["N",0])"},
                      Row{"negative dimension", "numbers with a sign", R"(["N",3])", R"(["N",-3])"},
                      Row{"G13 stored shape is wrong", "has shape [N, 3], but [N, 4] is stored", R"(["N",3])", R"(["N",4])"},
                      Row{"G13 stored rank is wrong", "has shape [N, 3], but [N, 3, 1] is stored", R"(["N",3])", R"(["N",3,1])"},
                      Row{"G13 ? where a symbol is known", "has shape [N, 3], but [?, 3] is stored", R"(["N",3])", R"(["?",3])"},
                      Row{"written by nothing", "value 3 ('z') is written by nothing", kY,
                          std::string(kY) + R"(,{"name":"z","dtype":"f32","shape":[1]})"}));

INSTANTIATE_TEST_SUITE_P(
    Nodes, GraphTest,
    ::testing::Values(
        Row{"G1 cycle of 2 nodes", "node 'quant' (code): reads value 2, which no input or earlier node writes", R"("inputs":[0])",
            R"("inputs":[2])"},
        Row{"G2 self-loop", "reads value 2", kFc, Fc("2", "2")},
        Row{"G3 input id = n", "value 3 does not exist, the graph has 3", kFc, Fc("3", "2")},
        Row{"G3 input id 2^32-1", "4294967295 is no id", kFc, Fc("4294967295", "2")},
        Row{"G3 input id 2^32", "4294967296 is no id", kFc, Fc("4294967296", "2")},
        Row{"G3 output id = n", "value 3 does not exist", kFc, Fc("1", "3")},
        Row{"G3 constant id = n", "constant 5 does not exist, the graph has 5", kFc, Fc("1", "2", R"("scale":2,"weight":5)")},
        Row{"G3 id as text", "nodes[1].inputs: expected a number", kFc, Fc("\"x\"", "2")},
        Row{"G4 value written twice", "value 1 is written twice", kFc, Fc("1", "1")},
        Row{"G4 input written by a node", "value 0 is written twice", kFc, Fc("1", "0")},
        Row{"G4 one node writes a value twice", "value 2 is written twice", kFc, Fc("1", "2,2")},
        Row{"no outputs", "has no outputs", kFc, Fc("1", "")},
        Row{"G6 dead node", "node 'fc' (dense): nothing uses its output, value 2",
            R"("outputs":[{"name":"logits","value":2}],"samples":)" + std::string(kSamples),
            R"("outputs":[{"name":"logits","value":1}],"samples":[])"},
        Row{"G8 arity", "wrong arity", kFc, Fc("1,1", "2")},
        Row{"G9 unknown op", "unknown ops: 'einsum' (node 'fc')", R"("op":"dense")", R"("op":"einsum")", Code::kUnsupported},
        Row{"G10 unknown attribute", "wrong constants or attributes", kFc, Fc("1", "2", R"("scale":2,"weight":1)", R"("mode":1)")},
        Row{"unknown constant of a node", "wrong constants or attributes", kFc, Fc("1", "2", R"("scale":2,"weight":1,"bias":2)")},
        Row{"attribute is an object", "nodes[1].attrs.'a': an attribute is a number, a string or a list", kFc,
            Fc("1", "2", R"("scale":2,"weight":1)", R"("a":{})")},
        Row{"attribute is a list of lists", "nodes[1].attrs.'a': expected a string, got a list", kFc,
            Fc("1", "2", R"("scale":2,"weight":1)", R"("a":[[1]])")},
        Row{"G14 dtype mismatch", "node 'quant': dtypes differ", R"("op":"code")", R"("op":"copy")"},
        Row{"G23 duplicate node", "two nodes have the name 'quant'", R"("name":"fc",)", R"("name":"quant",)"}));

const char* const kInputs = R"("inputs":[{"name":"x","value":0}])";
const char* const kOutputs = R"("outputs":[{"name":"logits","value":2}])";

INSTANTIATE_TEST_SUITE_P(
    Ports, GraphTest,
    ::testing::Values(
        Row{"G7 no inputs", "the graph has no inputs", kInputs, R"("inputs":[])"},
        Row{"G7 no outputs", "the graph has no outputs", kOutputs, R"("outputs":[])"},
        Row{"G7 output is an input", "output 'logits': is an input", kOutputs, R"("outputs":[{"name":"logits","value":0}])"},
        Row{"G3 output id = n", "output 'logits': value 3 does not exist", kOutputs, R"("outputs":[{"name":"logits","value":3}])"},
        Row{"G3 input id = n", "input 'x': value 3 does not exist", kInputs, R"("inputs":[{"name":"x","value":3}])"},
        Row{"G4 value that is two inputs", "value 0 is written twice", kInputs,
            R"("inputs":[{"name":"x","value":0},{"name":"x2","value":0}])"},
        Row{"G23 duplicate input", "two inputs have the name 'x'", kInputs, R"("inputs":[{"name":"x","value":0},{"name":"x","value":1}])"},
        Row{"G23 duplicate output", "two outputs have the name 'logits'", kOutputs,
            R"("outputs":[{"name":"logits","value":2},{"name":"logits","value":1}])"}));

std::string Samples(const std::string& inputs, const std::string& outputs) {
  return R"([{"inputs":{)" + inputs + R"(},"outputs":{)" + outputs + "}}]";
}

INSTANTIATE_TEST_SUITE_P(
    Samples, GraphTest,
    ::testing::Values(
        Row{"no inputs", "samples[0].inputs: 0 arrays for 1 names", kSamples, Samples("", R"("logits":4)")},
        Row{"unknown input", "samples[0].inputs: no array for 'x'", kSamples, Samples(R"("z":3)", R"("logits":4)")},
        Row{"too many outputs", "samples[0].outputs: 2 arrays for 1 names", kSamples, Samples(R"("x":3)", R"("logits":4,"b":4)")},
        Row{"constant out of range", "samples[0].inputs, 'x': constant 5 does not exist", kSamples, Samples(R"("x":5)", R"("logits":4)")},
        Row{"wrong dtype", "samples[0].inputs: 'x' must be f32", kSamples, Samples(R"("x":1)", R"("logits":4)")},
        Row{"wrong input shape", "samples[0]: input 'x': expected shape [N, 5], got [2, 3]", kSamples,
            Samples(R"("x":4)", R"("logits":3)")},
        Row{"wrong output shape", "samples[1]: output 'logits' has shape [2, 5], expected [2, 3]", kSamples,
            R"([{"inputs":{"x":3},"outputs":{"logits":4}},{"inputs":{"x":3},"outputs":{"logits":3}}])"}));

TEST(Graph, LimitsTheNumberOfSamples) {
  std::string many = "[";
  for (int i = 0; i < 65; ++i) many += std::string(i == 0 ? "" : ",") + R"({"inputs":{"x":3},"outputs":{"logits":4}})";
  const Status status = Load(ToyFileWithGraph(Replaced(kToyGraph, kSamples, many + "]"))).status();
  EXPECT_NE(status.message().find("samples: more than 64"), std::string::npos) << status.message();
}

TEST(Graph, RefusesATensorThatBelongsToNoConstant) {
  std::string text =
      Replaced(kToyGraph, R"(,{"name":"sample_x","dtype":"f32","shape":[2,5]},{"name":"sample_y","dtype":"f32","shape":[2,3]})", "");
  text = Replaced(text, kSamples, "[]");
  const Status status = Load(ToyFileWithGraph(text)).status();
  EXPECT_EQ(status.code(), Code::kModelFormat);
  EXPECT_NE(status.message().find("tensor 'sample_x' belongs to no constant"), std::string::npos) << status.message();
}

TEST(Graph, ListsEveryUnknownOp) {
  const std::string text = GraphText("[1]", F32Value("a", "[1]") + "," + F32Value("b", "[1]"),
                                     NodeText("gelu", "act", "0", "1") + "," + NodeText("topk", "best", "1", "2"), 2);
  const Status status = WriteGraph(text, {}, "test", ToyOps).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_NE(status.message().find("'gelu' (node 'act'), 'topk' (node 'best')"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace pqi::test
