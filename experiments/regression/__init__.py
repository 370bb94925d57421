"""Do the strategies still score what they scored when they were last looked at?"""
