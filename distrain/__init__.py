"""distrain"""
