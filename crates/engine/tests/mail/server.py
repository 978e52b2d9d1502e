"""A mail server for tests: tells on standard output, one JSON line each, its port and every mail it takes.

    server.py none|starttls|required CERTIFICATE KEY

Its user is app with the password s3cr3t-mail. The local part of a recipient may say what becomes of a mail: busy (451
the first time), nobody (550), slow (no answer).
"""

import asyncio
import json
import ssl
import sys
from email import message_from_bytes, policy

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def tell(**what):
    print(json.dumps(what), flush=True)


def check(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"app", b"s3cr3t-mail")
    return AuthResult(success=right, handled=False)


class Handler:
    def __init__(self):
        self.was_busy = False

    async def handle_RCPT(self, server, session, envelope, address, options):
        tell(rcpt=address)
        if address.startswith("busy@") and not self.was_busy:
            self.was_busy = True
            return "451 4.3.2 Busy, come again"
        if address.startswith("nobody@"):
            return "550 5.1.1 No such mailbox"
        if address.startswith("slow@"):
            await asyncio.sleep(3600)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=policy.default)
        parts = [
            {"type": part.get_content_type(), "name": part.get_filename(), "content": part.get_content()}
            for part in mail.walk()
            if not part.is_multipart()
        ]
        for part in parts:
            if isinstance(part["content"], bytes):
                part["content"] = part["content"].hex()
        tell(
            mail=dict(mail.items()),
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            parts=parts,
            tls=server.transport.get_extra_info("sslcontext") is not None,
            login=bool(session.authenticated),
            peer=session.peer[1],
        )
        return "250 2.0.0 Taken as 4711"


class Server(Controller):
    def factory(self):
        return SMTP(self.handler, hostname="mail.test", **self.SMTP_kwargs)


def main():
    mode, certificate, key = sys.argv[1:]
    context = None
    if mode != "none":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
    options = {"authenticator": check, "auth_require_tls": mode == "starttls"}
    if mode == "starttls":
        options |= {"tls_context": context, "require_starttls": True, "auth_required": True}
    server = Server(Handler(), hostname="127.0.0.1", port=0, **options)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    with_tls = context if mode == "required" else None
    listening = loop.run_until_complete(loop.create_server(server.factory, "127.0.0.1", 0, ssl=with_tls))
    tell(port=listening.sockets[0].getsockname()[1])
    loop.run_forever()


main()
