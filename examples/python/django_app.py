"""A Django project in one file: settings that change while it runs are attributes of `billing`."""

import os
import sys

import consulcfg
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path


class Billing(consulcfg.Settings, service="billing"):
    greeting: str = "hello"  # the key config/billing/greeting in Consul


billing = Billing()
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="change me")


def greet(request):
    return HttpResponse(f"{billing.greeting} from {os.getpid()}\n", content_type="text/plain")


urlpatterns = [path("", greet)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
