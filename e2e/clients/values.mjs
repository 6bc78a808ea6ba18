// Every content of a document: every lib0 value, every shared type, and documents that several clients made at once.

import * as Y from 'yjs'
import { randomFrom } from './documents.mjs'

/** Doubles of all sizes, by the thousand: any finite bit pattern, and decimals as people write them. */
const doubles = (count, seed) => {
  const random = randomFrom(seed)
  const bits = () => Math.floor(random() * 2 ** 32)
  return Array.from({ length: count }, (_, index) => {
    if (index % 2) return Math.round(random() * 1e6) / 10 ** (1 + index % 6)
    const [value] = new Float64Array(Uint32Array.of(bits(), bits()).buffer)
    return Number.isFinite(value) ? value : index + 0.1
  })
}

const EDGES = [31, 32, 53].flatMap(bits => [-1, 0, 1].flatMap(more => [2 ** bits + more, -(2 ** bits) + more]))
const NUMBERS = [
  0, -0, 1, -1, 63, 64, 65, -63, -64, -65, 127, 128, 255, 256, ...EDGES, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER,
  0.1, -0.1, 1 / 3, 0.5, 1e21, 1e300, Number.MAX_VALUE, Number.MIN_VALUE, -Number.MIN_VALUE, Number.EPSILON
]
const NO_JSON = [undefined, NaN, Infinity, -Infinity]
const BIG = [0n, 1n, -1n, 2n ** 53n, -(2n ** 53n), 2n ** 63n - 1n, -(2n ** 63n)]
const TEXTS = ['', 'text', 'é', '中', '🎈', '👩‍👩‍👧', '\u0000', '\uFEFF', '\u2028', '"\\', 'x'.repeat(300)]
const HALVES = ['\uD800', '\uDC00', 'a\uD83Cb', '\uDF88\uD83C']
const bytes = length => Uint8Array.from({ length }, (_, index) => index * 7 % 256)
const BYTES = [0, 1, 127, 128, 300].map(bytes)
const nested = (depth, inner) => depth === 0 ? inner : depth % 2 ? [nested(depth - 1, inner), depth] : { in: nested(depth - 1, inner), depth }

/** What JSON can say, which formats and embeds are written in. */
const JSON_VALUES = [null, true, false, ...NUMBERS, ...TEXTS, [], {}, [[]], { a: { b: [null, 0.1, 'c'] } }, { '': 1, é: 2 }, nested(60, 0.1)]
/** What lib0 writes beside: what Yjs takes for content of its own kind is not among it. */
const ANY_VALUES = [
  ...JSON_VALUES, ...BIG, ...NO_JSON, [undefined, null, ...BIG, ...NO_JSON, -0], { undefined, big: BIG, bytes: BYTES, zero: -0 }, nested(60, BIG), [BYTES]
]
const VALUES = [...ANY_VALUES, ...BYTES]

const each = (values, act) => values.forEach((value, index) => act(value, index))

/** Put every value into every place that takes it. */
const places = (doc, any, json) => {
  const map = doc.getMap('map')
  each(any, (value, index) => map.set(`key ${index}`, value))
  // A list takes these two only within other values.
  doc.getArray('array').push(any.filter(value => value !== undefined && typeof value !== 'bigint'))
  const element = new Y.XmlElement('p')
  doc.getXmlFragment('xml').insert(0, [element])
  each(any, (value, index) => element.setAttribute(`attribute-${index}`, value))
  const text = doc.getText('formats')
  text.insert(0, 'x'.repeat(json.length))
  each(json, (value, index) => text.format(index, 1, { [`format ${index % 3}`]: value }))
  const embeds = doc.getText('embeds')
  each(json, (value, index) => embeds.insertEmbed(index, { value }, index % 2 ? { bold: value } : undefined))
}

const types = doc => {
  const text = doc.getText('text')
  text.insert(0, 'plain and bold 🎈 text')
  text.format(6, 8, { bold: true })
  text.format(2, 20, { link: { href: 'https://noodl.example/?a=1' } })
  text.format(10, 2, { bold: null })
  text.delete(3, 4)
  text.insertEmbed(2, { image: 'x' }, { width: 1.5 })
  text.insertEmbed(3, new Y.Map([['in', new Y.Text('an embed')]]))
  text.setAttribute('align', 'left')
  text.applyDelta([{ retain: 1 }, { insert: 'δ', attributes: { italic: true } }, { delete: 1 }])
  const array = doc.getArray('array')
  array.push([1, new Y.Array(), new Y.Map(), new Y.Text('deep'), bytes(9), 'x', 2, 3])
  array.get(1).push([new Y.Array(), new Y.Map([['deeper', new Y.Map([['deepest', [-0, 2n]]])]])])
  array.delete(5, 2)
  array.insert(1, [null, 'between'])
  const map = doc.getMap('map')
  for (let round = 0; round < 5; round++) map.set('overwritten', round).toString()
  map.set('gone', new Y.Array())
  map.get('gone').push([1, new Y.Text('gone too')])
  map.delete('gone')
  map.set('text', new Y.Text('in a map'))
  map.get('text').format(0, 2, { bold: true })
  map.set('key é \u0000 🎈', 1)
  map.set('', 'an empty key')
  doc.getMap('').set('in', 'a root without a name')
  doc.getMap('root é 🎈').set('in', 'a root of another name')
}

const xml = doc => {
  const fragment = doc.getXmlFragment('xml')
  const [paragraph, words, hook] = [new Y.XmlElement('p'), new Y.XmlText('some words'), new Y.XmlHook('a hook')]
  fragment.insert(0, [paragraph, words, new Y.XmlElement('élément'), new Y.XmlElement('gone')])
  paragraph.setAttribute('class', 'c')
  paragraph.setAttribute('gone', 'x')
  paragraph.removeAttribute('gone')
  paragraph.insert(0, [new Y.XmlElement('b'), new Y.XmlText('in it')])
  paragraph.get(0).insert(0, [new Y.XmlElement('i'), new Y.XmlFragment()])
  words.format(0, 4, { em: {} })
  words.insertEmbed(4, { image: 1 })
  words.setAttribute('lang', 'en')
  fragment.delete(3, 1)
  fragment.insert(1, [hook])
  hook.set('value', { a: [0.1, -0, 2n] })
  hook.set('type', new Y.Text('in a hook'))
}

const subdocuments = doc => {
  const options = [
    {}, { gc: false }, { autoLoad: true }, { shouldLoad: false }, { meta: { title: 'é', at: [0.1, -0, 2n ** 62n, undefined], bytes: bytes(3) } },
    { gc: false, autoLoad: true, shouldLoad: true, collectionid: 'c', meta: 'all of them' }, { meta: false }, { meta: 7n }
  ]
  const [map, array, text] = [doc.getMap('map'), doc.getArray('array'), doc.getText('text')]
  each(options, (option, index) => {
    map.set(`document ${index}`, new Y.Doc({ guid: `in a map ${index}`, ...option }))
    array.push([new Y.Doc({ guid: `in a list ${index}`, ...option })])
  })
  map.set('gone', new Y.Doc({ guid: 'gone' }))
  map.delete('gone')
  map.set('in', new Y.Map([['in', new Y.Doc({ guid: 'deeper é 🎈', meta: { a: 1 } })]]))
  text.insert(0, 'text')
}

/** Text fields that exchange one emoji for another edit between the two halves of a character. */
const cuts = doc => {
  const text = doc.getText('text')
  text.insert(0, 'a🎈b🎉c👩‍👩‍👧d')
  text.delete(2, 1)
  text.insert(2, '\uDF89')
  text.insert(text.toString().indexOf('🎉') + 1, 'x')
  text.format(0, text.toString().indexOf('👩') + 1, { bold: true })
  text.insertEmbed(text.toString().lastIndexOf('\uDC67'), { in: 'between' })
}

/** Numbers of clients at the ends of their range, and one that is no 32-bit number. */
const ids = doc => {
  for (const id of [0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) {
    doc.clientID = id
    doc.getText('text').insert(0, `by ${id}, `)
    doc.getMap('map').set(`by ${id}`, id)
    doc.getText('text').delete(1, 1)
  }
}

/** Documents of one client: `make` edits a document, whose updates are what is sent. */
const CASES = {
  values: doc => places(doc, VALUES, JSON_VALUES),
  doubles: doc => doc.transact(() => places(doc, doubles(600, 1), doubles(600, 2))),
  'lone surrogates': doc => places(doc, HALVES, [...HALVES, { '\uD800': ['\uDC00'] }, [...HALVES]]),
  types,
  xml,
  subdocuments,
  cuts,
  ids
}

/** Let three clients edit at once, and now and then take in what the others did; the updates come in causal order. */
const concurrent = seed => {
  const random = randomFrom(seed)
  const below = limit => Math.floor(random() * limit)
  const pick = values => values[below(values.length)]
  const docs = [0, 1, 2].map(() => new Y.Doc())
  const [made, queues] = [[], docs.map(() => [])]
  docs.forEach((doc, from) => {
    doc.clientID = below(2 ** 32)
    doc.on('update', (update, origin) => {
      if (origin === 'another') return
      made.push(update)
      queues.forEach((queue, to) => { if (to !== from) queue.push(update) })
    })
  })
  const within = type => [...(type instanceof Y.Map ? type.values() : type)].filter(value => value instanceof Y.AbstractType).flatMap(value => [value, ...inner(value)])
  const inner = type => type instanceof Y.Array || type instanceof Y.Map ? within(type) : []
  const places = doc => [
    doc.getText('text'), doc.getArray('array'), doc.getMap('map'), doc.getXmlFragment('xml'), ...within(doc.getArray('array')), ...within(doc.getMap('map'))
  ]
  const edit = type => {
    const at = below((type.length ?? 0) + 1)
    if (type instanceof Y.Map) {
      const key = `key ${below(4)}`
      if (below(4)) type.set(key, pick([1.5, 'v', 2n, new Y.Map(), new Y.Array(), [1, { z: -0 }], new Y.Text('x'), bytes(3)]))
      else type.delete(key)
    } else if (below(4) === 0 && at < type.length) {
      type.delete(at, 1 + below(Math.min(3, type.length - at)))
    } else if (type instanceof Y.Text) {
      if (below(5) === 0 && at < type.length) type.format(at, 1, { bold: pick([true, null]) })
      else type.insert(at, pick(['a', 'bc', 'déf', '😀', 'x'.repeat(9)]))
    } else if (type instanceof Y.XmlFragment) {
      type.insert(at, [pick([new Y.XmlElement('p'), new Y.XmlText('words')])])
    } else {
      type.insert(at, pick([[1, 2, 3], ['s'], [{ a: 1 }, null], [new Y.Map()], [new Y.Array()], [new Y.Text('in')], [bytes(2)]]))
    }
  }
  for (let step = 0; step < 250; step++) {
    const who = below(3)
    if (below(3) === 0) queues[who].splice(0, below(queues[who].length + 1)).forEach(update => Y.applyUpdate(docs[who], update, 'another'))
    else docs[who].transact(() => edit(pick(places(docs[who]))))
  }
  return made
}

const updatesOf = (make, number) => {
  const [doc, made] = [new Y.Doc(), []]
  doc.clientID = 3_000_000_000 + number
  doc.on('update', update => made.push(update))
  make(doc)
  return made
}

/** The updates of every document, by its name; and those that are made `later`, which build on them. */
export const documents = seeds => {
  const cases = Object.entries(CASES).map(([name, make], number) => [name, updatesOf(make, number)])
  return [
    ...cases.map(([name, updates]) => ({ name, updates, later: [] })),
    ...seeds.map(concurrent).map((updates, index) => ({ name: `concurrent ${seeds[index]}`, updates: updates.slice(0, 100), later: updates.slice(100) })),
    { name: 'everything', updates: cases.flatMap(([, updates]) => updates), later: [] }
  ]
}
