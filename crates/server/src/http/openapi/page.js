// Shows what /api/openapi.json says: to read, to search, to try with the login of this browser.
'use strict';

const list = document.getElementById('list');
const search = document.getElementById('search');

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made[name] = value;
  made.append(...children);
  return made;
}

let api;
const resolve = (value) => (value && value.$ref ? value.$ref.slice(2).split('/').reduce((at, name) => at[name], api) : value);

/** A schema in a line: its type, or its name. */
function typeOf(schema) {
  if (!schema) return '';
  if (schema.$ref) return schema.$ref.split('/').pop();
  if (schema.oneOf) return schema.oneOf.map(typeOf).join(' or ');
  if (schema.type === 'array') return `list of ${typeOf(schema.items) || 'anything'}`;
  const type = [schema.type ?? 'any'].flat().join(' or ');
  return schema.enum ? schema.enum.map((value) => JSON.stringify(value)).join(' | ') : type;
}

/** Members of an object, in a table. */
function members(schema) {
  const found = resolve(schema);
  if (found?.oneOf) return members(found.oneOf[0]);
  if (found?.type === 'array') return members(found.items);
  if (!found?.properties) return '';
  const rows = Object.entries(found.properties).map(([name, member]) =>
    make('tr', {}, make('td', {}, make('code', {}, name), found.required?.includes(name) ? ' *' : ''), make('td', { className: 'quiet' }, typeOf(member)), make('td', {}, resolve(member).description ?? '')));
  return make('table', {}, make('tbody', {}, ...rows));
}

function contentOf(part) {
  const [kind, content] = Object.entries(part?.content ?? {})[0] ?? [];
  return { kind, schema: content?.schema };
}

/** What is shown of an endpoint once it is opened. */
function inside(path, method, endpoint) {
  const box = make('div', { className: 'inside' });
  if (endpoint.description) box.append(make('p', { className: 'quiet' }, endpoint.description));
  const parameters = (endpoint.parameters ?? []).map(resolve);
  const inputs = parameters.map((parameter) => {
    const label = `${parameter.name}, in ${parameter.in}`;
    const example = parameter.in === 'path' ? parameter.example : '';
    return [parameter, make('input', { ariaLabel: label, value: example ?? '', placeholder: typeOf(parameter.schema) })];
  });
  if (inputs.length) {
    const rows = inputs.map(([parameter, input]) =>
      make('tr', {}, make('td', {}, make('code', {}, parameter.name), ' ', make('span', { className: 'quiet' }, parameter.in)), make('td', {}, input), make('td', {}, parameter.description ?? '')));
    box.append(make('table', {}, make('tbody', {}, ...rows)));
  }
  let body = null;
  const request = contentOf(endpoint.requestBody);
  if (endpoint.requestBody) {
    const example = resolve(request.schema)?.examples?.[0];
    body = make('textarea', { ariaLabel: 'body', value: example ? JSON.stringify(example, null, 2) : '', spellcheck: false });
    box.append(make('h3', {}, `Body: ${typeOf(request.schema)}`), members(request.schema), body);
  }
  for (const [status, told] of Object.entries(endpoint.responses)) {
    if (status === 'default') continue;
    const answer = contentOf(told);
    box.append(make('h3', {}, `${status} `, make('small', {}, [told.description, typeOf(answer.schema)].filter(Boolean).join(': '))), members(answer.schema));
  }
  const out = make('pre', { hidden: true });
  const send = make('button', { type: 'button' }, method === 'GET' ? 'Try it' : `Send this ${method}`);
  send.onclick = () => ask(path, method, inputs, request.kind, body, out);
  box.append(send, out);
  return box;
}

async function ask(path, method, inputs, kind, body, out) {
  let url = path;
  const query = new URLSearchParams();
  for (const [parameter, input] of inputs) {
    if (parameter.in === 'path') url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value) query.append(parameter.name, input.value);
  }
  if (query.size) url += `?${query}`;
  out.hidden = false;
  out.textContent = `${method} ${url} …`;
  if (url.startsWith('/api/live')) {
    out.textContent = `${url} goes on without end: open it with curl -N or EventSource.`;
    return;
  }
  const headers = { 'X-Requested-With': 'api' };
  if (body?.value) headers['Content-Type'] = kind;
  try {
    const answer = await fetch(url, { method, headers, credentials: 'same-origin', body: body?.value || undefined });
    const text = await answer.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* as it is */ }
    const hint = answer.status === 401 ? '\n\nLog in at the console (/) first, in this browser.' : '';
    out.textContent = `${method} ${url}\n${answer.status} ${answer.statusText}\n\n${shown.slice(0, 200000)}${hint}`;
  } catch (error) {
    out.textContent = `${method} ${url}\n\n${error}`;
  }
}

/** Every endpoint by its tag, with the words it is found by. */
function show() {
  const entries = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, endpoint]) => ({ path, method: method.toUpperCase(), endpoint })));
  const groups = api.tags.map((tag) => {
    const found = entries.filter(({ endpoint }) => endpoint.tags[0] === tag.name).map(({ path, method, endpoint }) => {
      const head = make('summary', {}, make('span', { className: `method ${method}` }, method), make('code', {}, path), ' ', make('span', { className: 'quiet' }, endpoint.summary));
      const details = make('details', { id: endpoint.operationId }, head);
      details.ontoggle = () => { if (details.open && details.children.length === 1) details.append(inside(path, method, endpoint)); };
      details.words = `${method} ${path} ${endpoint.summary} ${tag.name}`.toLowerCase();
      return details;
    });
    return make('section', {}, make('h2', {}, tag.name, ' ', make('small', {}, tag.description)), ...found);
  });
  list.replaceChildren(...groups);
  const named = location.hash && document.getElementById(location.hash.slice(1));
  if (named) { named.open = true; named.scrollIntoView(); }
}

search.oninput = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of list.querySelectorAll('section')) {
    const all = [...section.querySelectorAll('details')];
    all.forEach((details) => { details.hidden = !words.every((word) => details.words.includes(word)); });
    section.hidden = all.every((details) => details.hidden);
  }
};

fetch('/api/openapi.json').then((answer) => answer.json()).then((found) => {
  api = found;
  document.getElementById('version').textContent = api.info.version;
  show();
}, (error) => { list.textContent = `The description could not be read: ${error}`; });
