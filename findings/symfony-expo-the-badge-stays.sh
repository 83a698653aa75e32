#!/bin/bash
# Guess: ExpoOptions of Symfony's Expo bridge reach Expo as they were set: badge(0), which Expo's page gives for clearing it, takes the number off the
#   icon when everything is read, and ttl(0) is for now or never.
# Behaviour: php-symfony-expo-notifier 5.4.53 puts the message through array_filter, which drops whatever PHP takes for false: 0, "" and "0". badge 3
#   arrives and badge 0 does not, so the icon shows 3 until the app sees to it; ttl 0 is no ttl at all, with which the vendor keeps the push as long as
#   it ever does, weeks; and of the answer "0" to "How many are coming?" its title arrives alone. Each is a success.
# Versions: php-symfony-expo-notifier 5.4.53+dfsg-0+deb12u1, php8.2-cli 8.2.36 (Debian 12). Date: 2026-11-30.
# Seen: "badge 3, ttl 3, 3: badge 3, ttl 3, body '3'; badge 0, ttl 0, 0: no badge, no ttl, no body; both sent"
# Exits 1 when badge 0 arrives. Needs a Debian with apt.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
apt-get download -q libbsd0 libedit2 libmagic1 libsodium23 php8.2-{cli,common} php-psr-{event-dispatcher,log} \
  php-symfony-{deprecation-contracts,event-dispatcher-contracts,expo-notifier,http-client,http-client-contracts} \
  php-symfony-{notifier,polyfill-php80,service-contracts} >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" unpacked; done
cat > push.php <<'PHP'
<?php

use Symfony\Component\HttpClient\MockHttpClient;
use Symfony\Component\HttpClient\Response\MockResponse;
use Symfony\Component\Notifier\Bridge\Expo\ExpoOptions;
use Symfony\Component\Notifier\Bridge\Expo\ExpoTransport;
use Symfony\Component\Notifier\Message\PushMessage;

error_reporting(E_ALL & ~E_DEPRECATED);
const FROM = __DIR__.'/unpacked/usr/share/php/';
require FROM.'Symfony/Contracts/Deprecation/function.php';
spl_autoload_register(function ($class) {
    $file = FROM.strtr($class, '\\', '/').'.php';
    is_file($file) && require $file;
});
$got = [];
$expo = new MockHttpClient(function ($method, $url, $request) use (&$got) {
    $got[] = json_decode($request['body'], true);

    return new MockResponse('{"data": {"status": "ok", "id": "a"}}', ['response_headers' => ['content-type: application/json']]);
});
$transport = new ExpoTransport(null, $expo);
$sent = 0;
foreach ([3, 0] as $number) {
    $options = (new ExpoOptions('ExponentPushToken[a]'))->badge($number)->ttl($number);
    $sent += (bool) $transport->send(new PushMessage('Anna', (string) $number, $options))->getMessageId();
}
$texts = array_map(fn ($push) => (isset($push['badge']) ? "badge {$push['badge']}" : 'no badge')
    .(isset($push['ttl']) ? ", ttl {$push['ttl']}" : ', no ttl')
    .(isset($push['body']) ? ", body '{$push['body']}'" : ', no body'), $got);
echo "badge 3, ttl 3, 3: $texts[0]; badge 0, ttl 0, 0: $texts[1]; ", 2 === $sent ? 'both sent' : "$sent sent", "\n";
exit(isset($got[0]['badge']) && !isset($got[1]['badge']) ? 0 : 1);
PHP
LD_LIBRARY_PATH=unpacked/usr/lib/x86_64-linux-gnu unpacked/usr/bin/php8.2 -n push.php
