// Run by Node with transformers.js: opens folders as a model and as a pipeline. Knows nothing of edgefold.
//
// Reads a list of {task, root, folder, dtype, inputs, samples, count} as JSON, writes for each {outputs} or {tokens} of
// the model, the {answers} of the pipeline, or the {error} that it met.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const found = await import(pathToFileURL(require.resolve('@huggingface/transformers')));
const library = found.env ? found : found.default;
const { env, pipeline, Tensor } = library;
env.allowRemoteModels = false;

const CLASSES = {
  'text-classification': 'AutoModelForSequenceClassification',
  'token-classification': 'AutoModelForTokenClassification',
  'question-answering': 'AutoModelForQuestionAnswering',
  'fill-mask': 'AutoModelForMaskedLM',
  'feature-extraction': 'AutoModel',
  'image-classification': 'AutoModelForImageClassification',
  'text-generation': 'AutoModelForCausalLM',
  'text2text-generation': 'AutoModelForSeq2SeqLM',
  'automatic-speech-recognition': 'AutoModelForSpeechSeq2Seq',
};
const GENERATING = ['text-generation', 'text2text-generation', 'automatic-speech-recognition'];

function asTensor({ type, dims, data }) {
  const array = type === 'int64' ? BigInt64Array.from(data, BigInt) : Float32Array.from(data);
  return new Tensor(type, array, dims);
}

async function opened({ task, root, folder, dtype, inputs, samples, count }) {
  env.localModelPath = root;
  const settings = { ...(dtype ? { dtype } : {}), session_options: { intraOpNumThreads: 1, interOpNumThreads: 1 } };
  const model = await library[CLASSES[task]].from_pretrained(folder, settings);
  const tensors = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, asTensor(value)]));
  const greedy = { do_sample: false, max_new_tokens: count };
  const found = {};
  if (GENERATING.includes(task)) {
    found.tokens = (await model.generate({ ...tensors, ...greedy })).tolist();
  } else {
    const outputs = Object.entries(await model(tensors));
    found.outputs = Object.fromEntries(outputs.map(([name, value]) => [name, value.to('float32').tolist()]));
  }
  await model.dispose();
  const ask = await pipeline(task, folder, settings);
  found.answers = [];
  for (const sample of samples) {
    found.answers.push(await answer(ask, task, sample, greedy));
  }
  await ask.dispose();
  return found;
}

async function answer(ask, task, sample, greedy) {
  if (task === 'question-answering') return ask(sample.question, sample.context);
  if (task === 'automatic-speech-recognition') return ask(Float32Array.from(sample.raw), greedy);
  if (task === 'text-generation') return ask(sample, { ...greedy, return_full_text: false });
  if (task === 'text2text-generation') return ask(sample, greedy);
  const said = await ask(sample);
  return said instanceof Tensor ? said.tolist() : said;
}

const results = [];
for (const each of JSON.parse(readFileSync(0, 'utf-8'))) {
  try {
    results.push(await opened(each));
  } catch (error) {
    console.error(error);
    results.push({ error: `${error}` });
  }
}
console.log(JSON.stringify(results, (_, value) => (typeof value === 'bigint' ? Number(value) : value)));
