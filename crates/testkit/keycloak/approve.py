"""A user who lets a device in at Keycloak's pages: approve.py URL USER PASSWORD.

Logs in, says yes, and prints the heading of the last page.
"""

import html
import http.cookiejar
import re
import sys
import urllib.parse
import urllib.request



class OnLoopback(http.cookiejar.DefaultCookiePolicy):
    """Shows secure cookies over HTTP too, as browsers do on this machine."""

    def return_ok_secure(self, cookie, request):
        return True


url, user, password = sys.argv[1:]
cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar(OnLoopback()))
browser = urllib.request.build_opener(cookies)


def read(answer):
    return answer.geturl(), answer.read().decode()


at, page = read(browser.open(url, timeout=60))
for _ in range(4):
    form = re.search(r'<form[^>]*action="([^"]+)"', page)
    if not form:
        break
    if 'name="username"' in page:
        fields = {"username": user, "password": password}
    elif 'name="accept"' in page:
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
        fields = {"accept": "Yes", **{name: html.unescape(value) for name, value in hidden}}
    elif 'name="device_user_code"' in page:
        query = urllib.parse.parse_qs(urllib.parse.urlparse(url).query)
        fields = {"device_user_code": query["user_code"][0]}
    else:
        break
    target = urllib.parse.urljoin(at, html.unescape(form.group(1)))
    at, page = read(browser.open(target, urllib.parse.urlencode(fields).encode(), timeout=60))
heading = re.search(r"<h1[^>]*>(.*?)</h1>", page, re.S)
print(re.sub(r"\s+", " ", heading.group(1)).strip() if heading else page[:300])
