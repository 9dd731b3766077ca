// Runs one problem in ONNX Runtime on one thread, for the Go program one folder up.
//
//   node run.mjs FOLDER
//
// FOLDER has problem.json, which says what it is, and its inputs as little-endian float32. Then a number
// on a line of standard input asks for so many calls, and is answered by a line with the CPU time that
// they took, in nanoseconds; "output" asks for the result of the last one, as a file of the folder.
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';

const folder = process.argv[2];
const problem = JSON.parse(readFileSync(join(folder, 'problem.json'), 'utf8'));
const read = (name) => new Float32Array(new Uint8Array(readFileSync(join(folder, name))).buffer);

// The few messages of onnx.proto that a model of one node needs, encoded by hand. A field is a number
// and a value: an integer, a float, text, bytes, or a list of fields.
class Float { constructor(value) { this.value = value; } }

function varint(n) {
  const bytes = [];
  for (; n > 127; n = Math.floor(n / 128)) bytes.push((n % 128) | 128);
  return Buffer.from([...bytes, n]);
}

function message(...fields) {
  return Buffer.concat(fields.map(([number, value]) => {
    if (typeof value === 'number') return Buffer.concat([varint(number * 8), varint(value)]);
    if (value instanceof Float) {
      const bytes = Buffer.alloc(4);
      bytes.writeFloatLE(value.value);
      return Buffer.concat([varint(number * 8 + 5), bytes]);
    }
    const bytes = Buffer.from(value);
    return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
  }));
}

const FLOAT = 1; // TensorProto.DataType
const attribute = (name, value) => [5, value instanceof Float ? message([1, name], [2, value], [20, 1]) : message([1, name], [3, value], [20, 2])];
const valueInfo = (name, dims) => message([1, name], [2, message([1, message([1, FLOAT], [2, message(...dims.map((d) => [1, message([1, d])]))])])]);
const initializer = (name, dims, data) => message(...dims.map((d) => [1, d]), [2, FLOAT], [8, name], [9, Buffer.from(data.buffer)]);

// model is one node with inputs, of which some are constants, and an output y.
function model(op, domain, attributes, inputs, constants, outputDims) {
  const names = [...Object.keys(inputs), ...Object.keys(constants)];
  const node = message(...names.map((n) => [1, n]), [2, 'y'], [4, op], ...attributes, [7, domain]);
  const graph = message([1, node], [2, 'one'],
    ...Object.entries(constants).map(([n, t]) => [5, initializer(n, t.dims, t.data)]),
    ...Object.entries(inputs).map(([n, t]) => [11, valueInfo(n, t.dims)]), [12, valueInfo('y', outputDims)]);
  return message([1, 9], [7, graph], [8, message([1, ''], [2, 20])], [8, message([1, 'com.microsoft'], [2, 1])]);
}

// swapped turns [a, b, dim] into [b, a, dim].
function swapped(x, a, b, dim) {
  const y = new Float32Array(x.length);
  for (let i = 0; i < a; i++) for (let j = 0; j < b; j++) y.set(x.subarray((i * b + j) * dim, (i * b + j + 1) * dim), (j * a + i) * dim);
  return y;
}

const tensor = (data, ...dims) => new Tensor('float32', data, dims);
let inputs, bytes, dims, finish = (y) => y;
switch (problem.kind) {
  case 'softmax':
    dims = [1, problem.n];
    inputs = { x: tensor(read('x'), ...dims) };
    bytes = model('Softmax', '', [attribute('axis', 1)], inputs, {}, dims);
    break;
  case 'sgemm':
    dims = [problem.n, problem.n];
    inputs = { a: tensor(read('a'), ...dims) };
    bytes = model('MatMul', '', [], inputs, { b: tensor(read('b'), ...dims) }, dims);
    break;
  case 'attention': {
    const { heads, length, dim, causal, scale } = problem;
    dims = [1, length, heads * dim];
    inputs = {};
    for (const name of ['q', 'k', 'v']) inputs[name] = tensor(swapped(read(name), heads, length, dim), ...dims);
    bytes = model('MultiHeadAttention', 'com.microsoft',
      [attribute('num_heads', heads), attribute('unidirectional', causal ? 1 : 0), attribute('scale', new Float(scale))], inputs, {}, dims);
    finish = (y) => swapped(y, length, heads, dim);
    break;
  }
}

const session = await InferenceSession.create(bytes, { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 });
const y = tensor(new Float32Array(dims.reduce((a, b) => a * b)), ...dims);
for await (const line of createInterface({ input: process.stdin })) {
  const start = process.cpuUsage();
  if (line === 'output') writeFileSync(join(folder, 'y'), Buffer.from(finish(y.data).buffer));
  else for (let calls = Number(line); calls > 0; calls--) await session.run(inputs, { y });
  const { user, system } = process.cpuUsage(start);
  process.stdout.write(`${(user + system) * 1000}\n`);
}
