// Tokens as a client sees them: who asks for one, and when a newer one is due.

/**
 * Returns the token to show, or undefined where the servers ask for none.
 *
 * `old` is a token that was refused or that expires soon, so the answer should be another one. The promise may stay
 * pending, for instance until the user has logged in again.
 */
export type GetToken = (old?: string) => Promise<string | undefined>

/** A token is renewed this long before it expires, or at half of its lifetime if that is shorter. */
const AHEAD = 60_000
/** Not sooner than this, because the clock may be wrong. Servers allow half a minute after the expiry. */
const LEAST = 5_000

/** The claims of a JSON Web Token, which only a server can verify; empty for other tokens. */
export const claims = (token: string): { exp?: number, access?: string, sub?: string } => {
  try {
    return JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')))
  } catch {
    return {} // a GitHub token has no claims, and no expiry that a client knows of
  }
}

/** Calls `renew` with a newer token before `token` expires; returns a function that stops this. */
export const renewInTime = (token: string | undefined, getToken: GetToken | undefined, renew: (token: string) => void) => {
  let stopped = false
  let timer: ReturnType<typeof setTimeout> | undefined
  const plan = () => {
    const left = (claims(token ?? '').exp ?? 0) * 1000 - Date.now()
    if (stopped || !(left > 0) || getToken === undefined) return // a server refuses an expired one, which is told elsewhere
    timer = setTimeout(async () => {
      const newer = await getToken(token).catch(plan) // without an answer, it is asked again before the expiry
      if (!stopped && newer !== undefined) renew(newer)
    }, Math.min(Math.max(left - AHEAD, left / 2, LEAST), 2 ** 31 - 1))
  }
  plan()
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}
