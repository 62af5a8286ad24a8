"""Around a cluster: its launcher's file, its token, and jobs sent to it from outside."""
