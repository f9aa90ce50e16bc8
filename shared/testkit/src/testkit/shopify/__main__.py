"""`python -m testkit.shopify --port 8500`: prints one line of JSON when it listens."""

import argparse
import asyncio
import json
import signal

from testkit.shopify.server import API_KEY, MockShopify


async def serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    async with MockShopify(
        api_key=arguments.api_key, api_secret=arguments.api_secret, port=arguments.port
    ) as shopify:
        said = {
            "url": shopify.url,
            "origin": shopify.origin,
            "api_key": shopify.api_key,
            "api_secret": shopify.api_secret,
        }
        print(json.dumps(said), flush=True)  # noqa: T201
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--api-key", default=API_KEY)
    parser.add_argument("--api-secret", default=None, help="made up unless given")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
