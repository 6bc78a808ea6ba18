// Shared by all drivers: commands come in as JSON lines, and events go out as JSON lines.

import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** Return a function that tells a test what happened: `emit(event, fields)`. */
export const emitTo = output => (event, fields = {}) => output.write(JSON.stringify({ event, ...fields }) + '\n')

/**
 * Run commands until the input ends: `{id, command, ...arguments}` is answered by `{event: "answer", id, value}` or
 * `{event: "failed", id, error}`. A command that waits does not hold up the ones after it.
 */
export const carryOut = async (commands, input, emit) => {
  const run = async line => {
    const { id, command, ...args } = JSON.parse(line)
    try {
      emit('answer', { id, value: await commands[command](args) })
    } catch (error) {
      emit('failed', { id, error: String(error?.stack ?? error) })
    }
  }
  await once(createInterface({ input }).on('line', run), 'close')
}

/** Tell the test what happened, on stdout. */
export const emit = emitTo(process.stdout)

/** Run the commands that come in on stdin, and end with it. */
export const serve = commands => carryOut(commands, process.stdin, emit).then(() => process.exit(0))

/** Resolve as soon as `predicate` holds; look now and then whenever `source` emits `event`. */
export const until = (source, event, predicate) => new Promise(resolve => {
  const look = () => {
    if (!predicate()) return
    source.off(event, look)
    resolve()
  }
  source.on(event, look)
  look()
})
