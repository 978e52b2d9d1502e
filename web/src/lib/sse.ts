// Server-sent events out of a stream of text. By fetch rather than EventSource, which can neither send headers nor
// tell a 404 from a broken connection.

export interface ServerEvent {
  event: string;
  data: string;
}

/** Takes text in any pieces and gives the events that are complete. */
export class EventParser {
  #rest = '';

  push(text: string): ServerEvent[] {
    this.#rest = (this.#rest + text).replaceAll('\r\n', '\n');
    const blocks = this.#rest.split('\n\n');
    this.#rest = blocks.pop() ?? '';
    return blocks.flatMap((block) => {
      let event = 'message';
      const data: string[] = [];
      for (const line of block.split('\n')) {
        if (line.startsWith('event:')) event = line.slice(6).trim();
        else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
      }
      return data.length > 0 ? [{ event, data: data.join('\n') }] : [];
    });
  }
}
